-- The api pipeline: when the event was received, and by which client's time it happened.

local function rfc3339(seconds)
  return os.date("!%Y-%m-%dT%H:%M:%SZ", seconds // 1)
end

function process(event, meta)
  local now = rfc3339(weir.now())
  event.received_at = now
  if event.ts == nil then
    event.ts = now
  end
  return event
end
