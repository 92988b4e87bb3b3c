// Package breaker decides, within the process, how a pipeline goes on while a dependency is in trouble: one Machine
// per dependency (Redis, the producer of results) watches its health, opens and closes a circuit breaker, probes, and turns
// the breaker's state and the fullness of the write-ahead log into a level: normal, journal, throttled, paused.
//
// The machine alone decides. Whoever stands above it (Temporal, a person) reads its changes and steers it with an
// override. It holds no data and drops none: lanes ask Direct before they try the dependency, Level for where commits
// go, and Admit for how long to wait before they read on.
//
// Non-obvious:
//   - The breaker is sony/gobreaker's. It goes from open to half-open only when it is asked, so Run asks once a
//     second; and anybody's call would count as a probe, so lanes' outcomes reach it only while it is closed.
//   - It calls back under its mutex, where asking it anything would deadlock: the callback only posts.
//   - A health signal opens it by a request that fails and that its rule accepts as sufficient. There is one state
//     machine, not one per signal.
//   - It cannot be forced. The override stands outside and the breaker goes on beneath it, honestly: when the override
//     is lifted, the present state is already there.
package breaker
