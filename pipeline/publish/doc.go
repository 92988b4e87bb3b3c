// Package publish keeps one slot of a pipeline's ledger: the partition of the ledger topic that a window's rows go to, and
// the transactional producer that writes there. It publishes the content of a revision in one Kafka transaction together
// with its ledger row, shows it in Redis, raises floors, gives rows up and lets contents expire. What to publish, and when,
// is decided by package result, which calls this one and is never called back.
//
// Non-obvious, and the cause of wrong results when forgotten:
//
//   - The highest revision published is what the ledger topic says, read after InitProducerId on the slot's transactional
//     id. Nothing of it may be kept once a transaction of the slot's producer failed or its outcome is unknown.
//   - What a revision holds is decided by the commit of its transaction: nothing of an attempt before it is visible to
//     readers of committed records, and what it wrote to Redis is shown only with the ledger row that names the attempt.
//   - What is checked and waits for the transaction that it shares with others is proved anew when the slot was taken over
//     meanwhile: the window may have got another revision.
//   - A revision publishes what has changed only when Redis provably shows the one before: the directory of its pages adds
//     up to the ledger row. Otherwise it is whole. Readers follow the row's links; nobody needs the view to be there.
//   - Whether a correction still fits is decided by the ledger as read in the slot, after everything that came before it: base
//     revision, checksum and edition, never by what whoever asks remembers.
//   - The same content is never published twice in a row: the ledger row alone is written again, under the same revision.
//   - Only Kafka decides. The view in Redis follows the ledger, and whatever of it fails is done again later.
package publish
