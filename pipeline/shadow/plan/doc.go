// Package plan says what a shadow of a pipeline reads: which windows are counted again, and for each lane where reading
// begins, with which basis, which seals it adopts where, and where it ends. It is arithmetic on ledger rows and offsets:
// no Kafka, no Redis, no clock.
//
// A lane decided every record under control values: the greatest event time before it and the seals it had adopted. Ledger
// rows keep these as anchors: a row of a window names the first offset of its slices, the basis just before it, and every
// seal adopted from there up to the offset that the row covers. Reading again from an anchor, and adopting what was adopted
// where it was adopted, decides as the lane decided. A shadow that counts "as read" therefore begins at an anchor below
// everything that may belong to its windows, and rows together have to name every seal from there on. What no row names
// may still be known not to have mattered: see laneHistory.
package plan
