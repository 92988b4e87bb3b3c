// Package publish keeps one slot of a pipeline's ledger: the partition of the ledger topic that a window's rows go to, and
// the transactional producer that writes there. It freezes the content of a revision, publishes it in one Kafka
// transaction together with its ledger row, shows it in Redis, raises floors, gives rows up and lets contents expire. What
// to publish, and when, is decided by package result, which calls this one and is never called back.
//
// Non-obvious, and the cause of wrong results when forgotten:
//
//   - The highest revision published is what the ledger topic says, read after InitProducerId on the slot's transactional
//     id. Nothing of it may be kept once a transaction of the slot's producer failed or its outcome is unknown.
//   - The content of a revision is whatever was completely prepared first under its number. A retry publishes that, never
//     what it would read now, and a newer state of the window becomes the next revision.
//   - What a correction has frozen is published by that correction alone: the same replay with the same difference, or the same
//     roll-up of the same children. Neither lanes nor another correction take it over, whatever its number.
//   - Whether a correction still fits is decided by the ledger as read in the slot, after everything that came before it: base
//     revision, checksum and edition, never by what whoever asks remembers.
//   - The same content is never published twice in a row: the ledger row alone is written again, under the same revision.
//   - Only Kafka decides. The view in Redis follows the ledger, and whatever of it fails is done again later.
package publish
