// Package parallel runs a bounded number of calls at a time.
package parallel

import (
	"context"
	"sync"
)

// Do calls fn for 0..n-1, at most width at a time, and returns the first error after all calls have ended; the
// context of the others ends with it. With width 1 everything runs in order in the calling goroutine.
func Do(ctx context.Context, width, n int, fn func(ctx context.Context, i int) error) error {
	if width <= 1 || n <= 1 {
		for i := range n {
			if err := fn(ctx, i); err != nil {
				return err
			}
		}
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg   sync.WaitGroup
		next = make(chan int)
	)
	for range min(width, n) {
		wg.Go(func() {
			for i := range next {
				if ctx.Err() != nil {
					continue
				}
				if err := fn(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}
