-- Repeat one request: wrk ... URL -- BODY. Prints responses, failures and microseconds for bench/load.py.

function init(args)
  if args[1] then
    wrk.method, wrk.body = "POST", args[1]
    if #args[1] > 0 then wrk.headers["Content-Type"] = "application/json" end
  end
end

function done(summary)
  local e = summary.errors
  local failed = e.status + e.connect + e.read + e.write + e.timeout
  io.write(string.format("\nBENCH %d %d %d\n", summary.requests - e.status, failed, summary.duration))
end
