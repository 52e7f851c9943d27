-- Sends what `webhook.py` has prepared, as fast as the answers come.
-- Arguments after `--`: a folder of requests (`fresh-N`, `repeated-N`), how many of each there are, one in how many is
-- a repeated one, and a name for this run.
-- A request file holds everything but the id of its delivery, whose place is marked.

local fresh, repeated, every, run, sent = {}, {}, 10, "", 0

local function halves(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  local first, last = text:find("@DELIVERY@", 1, true)
  return { text:sub(1, first - 1), text:sub(last + 1) }
end

function init(args)
  local folder, count = args[1], tonumber(args[2])
  every, run = tonumber(args[3]), args[4]
  for i = 1, count do
    fresh[i] = halves(folder .. "/fresh-" .. i)
    repeated[i] = halves(folder .. "/repeated-" .. i)
  end
end

function request()
  sent = sent + 1
  if sent % every == 0 then
    local number = math.floor(sent / every) % #repeated + 1
    return repeated[number][1] .. "repeated-" .. number .. repeated[number][2]
  end
  local chosen = fresh[sent % #fresh + 1]
  return chosen[1] .. run .. "-" .. sent .. chosen[2]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "failed": %d, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3
  ))
end
