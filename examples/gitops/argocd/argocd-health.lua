-- Health of every kind of llmrelay.io, for Argo CD: from the conditions that the operator writes, and from nothing else.
--
--   Healthy      it serves as it is written
--   Progressing  the operator or data planes are not there yet: wait
--   Suspended    it is out of use because its manifest says so: suspend, revoked, expiresAt, or the annotation
--                llmrelay.io/paused
--   Degraded     somebody has to do something: the message says what
--
-- Lua 5.1, no library but what Argo CD opens.

local said = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    said[condition.type] = condition
  end
end

local function health(status, condition)
  return { status = status, message = condition.message }
end

local ready, reconciling, stalled = said.Ready, said.Reconciling, said.Stalled

-- The status of a paused object is not kept up to date: what it says of generations does not count.
if reconciling ~= nil and reconciling.status == "False" and reconciling.reason == "Paused" then
  return health("Suspended", reconciling)
end

if ready == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not looked at it yet" }
end
if stalled ~= nil and stalled.status == "True" then
  return health("Degraded", stalled)
end
if reconciling ~= nil and reconciling.status == "True" then
  return health("Progressing", reconciling)
end
if ready.status == "True" then
  return health("Healthy", ready)
end

local by_reason = {
  Expired = "Suspended",
  HostDisabled = "Suspended",
  Paused = "Suspended",
  Revoked = "Suspended",
  -- At first there is none, and it comes.
  NoDataPlane = "Progressing",
}
return health(by_reason[ready.reason] or "Degraded", ready)
