-- The producer pipeline: names the stream of an event's type; the Kafka sink makes its topic of it.

local streams = {
  login = "sessions",
  logout = "sessions",
  signup = "sessions",
  purchase = "commerce",
  refund = "commerce",
}

function process(event, meta)
  meta.headers.stream = streams[event.type] or "activity"
  return event
end
