// Package ledger holds what a pipeline publishes as bytes: the rows of the ledger topic and of the result topic, the
// floors, the checksum of a revision's content, and the names of topic, slots and transactional ids. It reads both
// topics and never writes; package result publishes. docs/ledger.md describes the formats.
//
// Non-obvious, and the cause of wrong results when forgotten:
//
//   - Key and slot of a window never change, not even between versions of the row: a row under another key would not
//     replace the one before it, and a row in another slot would not be found.
//   - The latest row of a window is its state. Rows of one window agree in (Revision, Checksum).
//   - A record of a type that this version does not know is passed over, never an error: later versions write decisions
//     and editions beside the rows. A row of a later version is an error: what it says cannot be guessed.
package ledger
