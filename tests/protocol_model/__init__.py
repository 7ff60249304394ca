"""The slot protocol as an executable model: `pool` is the specification, `world` what can go wrong around it.

`explore` visits every state of small worlds and walks at random through bigger ones. `broken_rules` breaks one rule at
a time, and the exploration finds the harm. tests/store/test_same_answers.py compares the model with both stores.
docs/design/protocol.md explains the rules. Change a rule here first.
"""
