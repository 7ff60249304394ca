-- tombstones: read the last answer about the holder.
-- It takes reads_tombstone (is it needed?), TOMBSTONE. It sets was_final, last_token, last_status, last_heirs.
local was_final, last_token, last_status, last_heirs, heirs_still_reserved

if reads_tombstone then
  local tombstone = call('GET', TOMBSTONE)
  if tombstone then
    was_final, last_token, last_status, last_heirs = string.match(tombstone, TOMBSTONE_PATTERN)
    was_final = was_final == '1'
  end

  -- Of the heirs that the tombstone remembers, those that still wait for their start.
  function heirs_still_reserved(names)
    local still = {}
    names = tickets and names ~= '' and cjson.decode(names) or {}
    for i = 1, #names, 2 do
      local heir, heir_token = names[i], names[i + 1]
      local heir_record = call('HGET', STATE, SLOT .. heir)
      local slot_token, request_id, _, _, since = string.match(heir_record or '', SLOT_PATTERN)
      if slot_token == heir_token and request_id == '' then
        local found = call('HMGET', TICKETS, TICKET .. heir, ENVELOPE .. heir)
        local kind, _, _, arrived, returned, _, deaths, unknown_for = string.match(found[1] or '', TICKET_PATTERN)
        add_heir(
          still, heir, heir_token, found[2] or '', arrived or since, since, kind or '', deaths or '0', unknown_for or '0',
          returned
        )
      end
    end
    return still
  end
end
