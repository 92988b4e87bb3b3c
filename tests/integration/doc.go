// Package integration runs whole pipelines: real worker processes that the tests kill, freeze and restart, Temporal's
// development server, Kafka and Redis, everything started, fed and stopped as a user would. Every test compares what was
// published with the oracle, to the last count.
//
// Without further ado Kafka is embedded and lives in the test process, and Redis is a redis-server process of the
// test's own where the system has one, embedded otherwise. MILLRACE_KAFKA_BROKERS, MILLRACE_REDIS_ADDRS and
// TEMPORAL_ADDRESS point the very same tests at servers that are there; tests that must kill, empty or cut off a server
// start one of their own all the same. Names of pipelines, topics and namespaces are unique, so that tests share
// servers. MILLRACE_TEST_LONG=1 takes all of the input and longer outages; MILLRACE_TEST_LOG=1 shows what workers log.
package integration
