-- records: how slots, tickets and tombstones are written down. The Lua files agree on it here, Python in records.py.
-- Fields of the state: counter, limit, override, keep_until, limit_from (worker: a worker gave the limit), and
-- "slot:<holder>".
-- Fields of the tickets: "ticket:<holder>"; "envelope:<holder>" of a task, "channel:<holder>" of a function that waits;
-- "task:<task id>", which names the holder of that task's newest ticket.
-- The last field of a record may contain anything.
local SLOT, TICKET, ENVELOPE, CHANNEL, TASK = 'slot:', 'ticket:', 'envelope:', 'channel:', 'task:'
local WAITER = 'waiter' -- the kind of a function that waits; kinds of tasks begin with "task/"

-- token|request_id|starter|hard_limit|since|label. request_id is empty while the slot is reserved; then starter is the
-- request that alone may start it (empty: anyone may). hard_limit is 0 where there is none.
local SLOT_PATTERN = '^(%d+)|([^|]*)|([^|]*)|(%d+)|(%d+)|(.*)$'
local SLOT_OWNER_PATTERN = '^(%d+)|([^|]*)|([^|]*)' -- the first three: reading all takes twice as long

local function encode_slot(token, request_id, starter, hard_limit, since, label)
  return token .. '|' .. request_id .. '|' .. starter .. '|' .. hard_limit .. '|' .. since .. '|' .. label
end

-- kind|priority|rank|arrived|returned|unused|deaths|unknown_for|unknown_at|task_id. returned: 1 when the ticket has come
-- back to the queue, 2 when its task had begun to run. unused: how many of its reservations nobody used. deaths: how many of its runs killed their process.
-- unknown_for: for so many µs workers have said that they do not know its task; unknown_at: when one said it last.
local TICKET_PATTERN = '^([^|]*)|(%d+)|(-?%d+)|(%d+)|(%d)|(%d+)|(%d+)|(%d+)|(%d+)|(.*)$'

local function encode_ticket(
  kind, priority, rank, arrived, returned, unused, deaths, unknown_for, unknown_at, task_id
)
  return kind .. '|' .. priority .. '|' .. rank .. '|' .. arrived .. '|' .. returned .. '|' .. unused .. '|' .. deaths
    .. '|' .. unknown_for .. '|' .. unknown_at .. '|' .. task_id
end

-- A ticket that was put aside is in the queue with this number plus the time (µs) until which it gets no slot: behind
-- all ranks, which are times, too. Its own rank is in its record.
local ASIDE = 4000000000000000

-- final|token|status|heirs: the last answer about a holder. final is 1 when nothing may start any more. The heirs are a
-- JSON list of holders and tokens.
local TOMBSTONE_PATTERN = '^(%d)|(%d*)|(%a*)|(.*)$'

local function encode_tombstone(final, token, status, heirs)
  local names = ''
  if heirs and heirs[1] then
    local list = {}
    for i = 1, #heirs, 8 do
      list[#list + 1] = heirs[i]
      list[#list + 1] = heirs[i + 1]
    end
    names = cjson.encode(list)
  end
  return final .. '|' .. token .. '|' .. status .. '|' .. names
end
