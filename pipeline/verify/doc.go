// Package verify checks what must hold of a pipeline from the outside: each lane counted every record once and holds what
// it folded, the ledger is without gaps and contradictions, published rows are what it says, and Redis shows the same. It
// only reads.
package verify
