-- Quickstart: drops heartbeats, gives every event a time, marks big purchases.

function process(event, meta)
  if event.type == "heartbeat" then
    return nil -- dropped, counted as filtered
  end
  if event.type == nil then
    error("an event needs a type") -- to the dead letter, with this reason
  end
  event.seen_at = weir.now()
  if event.type == "purchase" and event.props and (event.props.amount or 0) >= 100 then
    event.props.big = true
  end
  return event
end
