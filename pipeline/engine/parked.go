package engine

import (
	"slices"
	"time"

	"millrace/pipeline/lane"
)

// Parked implements lane.Gate. Lanes that park close together while they run make one batch, which comes with its report:
// what was to be done for them was done when they were acquired, and a decision is all that they wait for.
func (r *recovery) Parked(p lane.Parking) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.fallen
	if b == nil {
		b = r.newBatch()
		b.MidRun = true
		r.fallen = b
		time.AfterFunc(Collect, b.fillParked)
	}
	b.parked = slices.DeleteFunc(b.parked, func(before lane.Parking) bool { return before.Lane == p.Lane })
	b.parked = append(b.parked, p)
}

// fillParked ends the collecting and reports the batch.
func (b *batch) fillParked() {
	b.r.mu.Lock()
	b.full, b.r.fallen = true, nil
	b.over()
	b.r.mu.Unlock()
	b.tell()
}
