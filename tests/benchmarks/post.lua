-- wrk: posts experiences of about 1.45 KB, each with an id that was never posted before.
-- BENCH_KEY, BENCH_RUN (names the run in the ids), BENCH_FORM (object, list or lines), BENCH_ITEMS.

local key = os.getenv("BENCH_KEY")
local run = os.getenv("BENCH_RUN")
local form = os.getenv("BENCH_FORM")
local items = tonumber(os.getenv("BENCH_ITEMS"))

local before = '{"id":"' .. run .. "-"
local middle = '","occurred_at":"2026-01-02T03:04:05Z","source":"bench","consent":{"training":true},'
  .. '"messages":[{"role":"user","content":"'
local after = " " .. string.rep("what should I do? ", 28) .. '"}],"response":"'
  .. string.rep("You could begin with the smallest step. ", 19) .. '"}'
local made = 0

local function item()
  made = made + 1
  return before .. made .. middle .. made .. after
end

local function body()
  if form == "object" then return item() end
  local all = {}
  for i = 1, items do all[i] = item() end
  if form == "lines" then return table.concat(all, "\n") .. "\n" end
  return "[" .. table.concat(all, ",") .. "]"
end

function init(_)
  wrk.headers["Authorization"] = "Bearer " .. key
  wrk.headers["Content-Type"] = form == "lines" and "application/x-ndjson" or "application/json"
end

function request()
  return wrk.format("POST", "/v1/experiences", nil, body())
end

function done(summary, latency, _)
  local e = summary.errors
  print(string.format(
    '\n{"requests":%d,"seconds":%f,"p50_us":%f,"p99_us":%f,"errors":%d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
