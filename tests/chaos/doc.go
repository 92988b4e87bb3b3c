// Package chaos runs whole pipelines through schedules of faults and wants the results exact afterwards. A seed is a
// schedule: everything that is decided is decided from it alone (plan.go), so a seed that fails can be run again.
// Workers, Redis, Temporal and Kafka are processes; the links from each worker to Redis go through a proxy of its own.
//
//	make chaos                 the fixed set, seeds 1 to 30
//	make chaos SEEDS=3,17      those
//	make chaos FRESH=20        so many new ones; each is printed, and runs again with SEEDS
//
// A seed goes: start servers, workers and the pipeline; feed it at a steady rate; apply the faults one after the other;
// heal everything; wait until all is read; drain; judge (judge_test.go). Results, counters, late and dead-letter records
// must equal the oracle's, `millrace verify` must find nothing, no revision may stand twice, no worker may have crashed,
// and nothing may be left: no process, no file, no goroutine of a pipeline that has stopped.
//
// # What is legal
//
// Millrace promises exactness as long as the state of every lane is somewhere. These rules say what a schedule may do;
// legal.go enforces them while a schedule runs, and docs/chaos.md explains them.
//
//  1. No fault before every lane has committed for the first time.
//  2. A fault that makes Redis forget everything begins only when the state of every lane is in the memory of a worker
//     that runs: for three seconds each lane has had one owner, which is neither dead nor frozen nor cut off nor about
//     to hand the lane over, and which goes on committing. (Otherwise the state is nowhere: the lane parks with the
//     incident state-lost, and that is right.)
//  3. From then on nothing that may end or move a lane begins until every lane has written its state again, has
//     committed as much as before, and Redis has written that to its file. What only delays may begin.
//  4. A server, a link or a worker suffers one fault at a time. All of them may suffer at once.
//
// A kill of Redis that leaves it its data is no loss in this sense, although it may cost the last second of
// acknowledged writes: what remains is a state that the lanes were in, and their input is still in Kafka.
package chaos
