-- POSTs the body in a file, with the headers openai-python sends; prints what was counted as one JSON line.
-- wrk ... -s wrk.lua URL -- BODY_FILE
function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  file:close()
  wrk.headers["Accept"] = "application/json"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["User-Agent"] = "OpenAI/Python 1.82.0"
  wrk.headers["X-Stainless-Lang"] = "python"
  wrk.headers["X-Stainless-Package-Version"] = "1.82.0"
  wrk.headers["X-Stainless-OS"] = "Linux"
  wrk.headers["X-Stainless-Arch"] = "x64"
  wrk.headers["X-Stainless-Runtime"] = "CPython"
  wrk.headers["X-Stainless-Runtime-Version"] = "3.11.7"
  wrk.headers["Authorization"] = "Bearer sk-bench-client-key"
  wrk.headers["X-Stainless-Async"] = "false"
  wrk.headers["x-stainless-retry-count"] = "0"
  wrk.headers["x-stainless-read-timeout"] = "600"
  wrk.headers["Accept-Encoding"] = "identity"
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %d, "us": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, "bad_status": %d, "socket_errors": %d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99), e.status,
    e.connect + e.read + e.write + e.timeout))
end
