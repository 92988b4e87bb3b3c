// Package model explores the protocol of lanes and closing at random, with the real code.
//
// What is real: fold.State with Snapshot, Loader and Reseed; lane.Holder with every step of an acquisition, the way back when
// Redis forgot, lane.Decisions and what carries them out; inflight.Commits, Idleness and Judge; deliver.Sender with side
// records, journal, drain and requests; store.Store with its Lua scripts; result.Closer with Round, CloseWindow, Flush and
// Drain; specs, decoder, windows, aggregates. What is not: Redis (redis.go: a server in memory that runs the scripts and
// can take back any suffix of the calls of a hash tag; redis_test.go holds its answers against miniredis), Kafka
// (publishtest.Kafka), the group coordinator (surroundings.go), and which of the things that can happen to a running lane
// happens next (running.go): that is what lane.Lane and deliver.Committer leave to goroutines and clocks.
//
// A run is one seed. Every process (a lane's owner with its committer, a closer) is a coroutine that hands control back
// before each call to Redis or Kafka, so a run is one order of calls, and between any two of them anything may happen:
// another process runs; a process freezes, goes on much later or crashes; a partition is given to somebody else, and its
// old owner hears of it or not; Redis loses a call, an answer, a suffix of the calls of some hash tags, its scripts or
// everything, with the processes that held it in memory or without them: then lanes park and the operator lets them be
// rebuilt from what the group's offset says, or starts them anew; a call arrives late; Kafka loses a request or an answer;
// events come, out of order, late, invalid, from partitions that were silent; closers come and go, several at once. Each
// seed has its own weather: some faults never, others often.
//
// After the chaos faults end, every lane gets a living owner, one closer goes on until nothing is left to do, and drains.
//
// In the climate "outage" every process has a journal (the real one, over a disk in memory) and is cut off from Redis again
// and again; half of them know, the others find out. Disks outlive their process, and the next owner of the partition has
// the disk or not; now and then somebody settles what is on a disk without running the lane.
//
// In the climates "loss" and "jumps" keys of lanes are deleted while the group's offset lags behind what Redis has: for long
// spells the coordinator hears of no mark, and what a process has marked and not committed is lost with it. In
// "jumps" events lie beyond max_jump again and again, right or wrong, and an operator answers lanes that ask, at random.
//
// Lanes hold their state in fields or in pages: in one run of six in fields alone, in most of the others in pages from the start, and
// in the rest every reader can read pages from some step on. From then on most processes write them from their first commit, others
// begin to in mid-run, and Redis may forget that a lane has turned. Pages, calls and hashes are made so small that a commit of a few
// entries has several of each.
//
// What is judged, besides that it comes to rest:
//
//   - After every commit's meta call: counters and watermark are those of the records below the offset, and every entry
//     holds exactly the events below its stamp. So whoever restores the lane and reads on gets what an undisturbed lane has.
//     No more jumps in a row were refused than the spec says, unless the lane was read again.
//   - After every call to a lane in pages: what Redis holds of it up to the last commit that has ended, in pages and in the fields
//     beneath, is exactly the events below the committed offset, and adds up with what was dropped to what was folded. So pages
//     of a commit that has not ended count for nobody, and none that is needed is ever deleted. At rest Redis has the pages that
//     the lane knows of, and no others.
//   - When a closer lets a lane drop slices: every window up to there is final. The shown revision never goes back.
//     A record goes to the late topic only when what makes it late is committed.
//   - At the end: the last revision of every window equals tests/oracle. Every revision ever published is the content of
//     the events below the offsets it names, was closed when every lane that was not idle had passed the window's end, is
//     published once, follows the one before without a gap, and none follows the final one. Lanes have counted every
//     record once and dropped what they may. Every late event is in the late topic. Redis shows what the ledger says.
//     No incident was reported. result.Verify finds nothing.
//
// Seals: an idle lane that adopts a seal makes later events late that its own watermark would not. The model notes with
// every commit which seals were adopted at which offset (what Redis forgets, it forgets with it) and hands them to the
// oracle; an event that stood in the log when its lane asked the broker for the end must not become late by a seal. If
// Redis forgets a seal that mattered, an event may stand in the late topic and in a revision, as the protocol says:
// windows up to that seal are then not judged, and counted. Two runs of three forget no such seal. What an operator answered
// about jumps is kept with the seals: both are rulings, which no log tells.
//
// Recounts (recount*.go): when all of that was judged, final windows of the run are counted again with package shadow as it is,
// in a bubble of package synctest: twice or three times, as read or with everything that came late, by the same spec or by
// another one, by runners that die at any call to Redis or freeze and go on much later. Closers of two processes publish what
// was found, again and again and in competition, and certify what was found equal. The oracle counts the same windows. What is
// judged: contents, differences and certificates; that each correction is published once, on its base alone; that nobody writes
// under another one's guard; and that nothing is left of a shadow that was ended. The goroutines of a runner have an order of
// calls that is not the seed's.
//
// Rules of the protocol can be switched off, by wrappers around the real code (rules*.go). TestMutants checks that each is
// then found wrong, and TestRedundantRules says which are not, and which other rule does their work here. TestRecountMutants and
// TestRedundantRulesOfRecounts do the same for recounts.
//
//	go test ./tests/model                                         a few hundred seeds and all mutants
//	go test ./tests/model -run Protocol -v -model.seeds 12000     or MILLRACE_MODEL_SEEDS=12000
//	go test ./tests/model -run Protocol -model.seed 17            one run, every step printed
//	go test ./tests/model -run Protocol -model.seed 7 -model.sky storm -model.rule 'owner is a random token'
//	go test ./tests/model -run 'Recount$' -v -model.seeds 300     300 seeds of each climate are counted again
//	go test ./tests/model -run Mutants -v                         which seed finds which mutant, and how
package model
