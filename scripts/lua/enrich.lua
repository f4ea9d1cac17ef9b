-- The consumer pipeline: the day that counters go by, and no address of a person in the store.

function process(event, meta)
  local ts = event.ts
  if type(ts) ~= "string" or #ts < 10 then
    error("ts must be an RFC 3339 time, got " .. tostring(ts))
  end
  event.day = string.sub(ts, 1, 10)
  local context = event.context
  if context ~= nil and context.ip ~= nil then
    context.ip_hash = weir.hash(context.ip)
    context.ip = nil
  end
  return event
end
