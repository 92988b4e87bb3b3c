// Package retention shows that a pipeline holds no more than its open windows and its retention. Real lanes, store and
// closer run as fast as the machine lets them, over a redis-server of the test's own and over Kafka: embedded, or the one
// that MILLRACE_KAFKA_BROKERS names. Only the source topic has no records: the lanes are fed from memory.
//
// It also measures what a roll-up costs.
//
// Without flags the tests are small. The sizes that docs/performance.md speaks of:
//
//	go test ./tests/retention -run TestContentsGo -v -timeout 60m -minutes 20000 -keys 1000 -results 30s
//	go test ./tests/retention -run TestTakeOver -v -timeout 60m -history 100000
//	go test ./tests/retention -run TestRollUpCost -v -timeout 60m -keys 1000000
package retention
