"""The pure core: commands, replies, flows, keys. No Redis, no asyncio, no threads."""
