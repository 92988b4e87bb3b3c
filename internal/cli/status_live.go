package cli

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// Sequences of a terminal: its alternate screen, so that what stood there before comes back, and its cursor.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[2J"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	toHome      = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// watchStatus redraws the status every second until the context ends, which is no error. Looks run beside the drawing: a server
// that hangs does not freeze the screen, and the last values stay.
func watchStatus(ctx context.Context, w io.Writer, o *observer) error {
	if _, err := io.WriteString(w, enterScreen); err != nil {
		return err
	}
	last := statusView{Pipeline: o.spec.Name}
	defer func() {
		var text strings.Builder
		drawHead(&text, last)
		_, _ = io.WriteString(w, leaveScreen+text.String()) // the last words on the screen that was there before
	}()
	looking, stop := context.WithCancel(ctx)
	views, failed := make(chan statusView), make(chan error, 1)
	done := make(chan struct{})
	defer func() {
		stop()
		<-done // nobody looks any more when the connections are given back
	}()
	go func() {
		defer close(done)
		failed <- o.watch(looking, views)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return err
		case last = <-views:
		case <-tick.C:
		}
		if last.State == "" {
			continue // before the first look
		}
		width, height := screenSize(w)
		// Home, each line cleared to its end, then everything below: no flicker.
		frame := toHome + strings.ReplaceAll(drawScreen(last, time.Now(), width, height), "\n", clearLine+"\n") + clearBelow
		if _, err := io.WriteString(w, frame); err != nil {
			return err
		}
	}
}

// watch looks every second and hands the views over until ctx ends.
func (o *observer) watch(ctx context.Context, views chan<- statusView) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		view, err := o.look(ctx)
		if err != nil {
			return err
		}
		select {
		case views <- view:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// screenSize is the size of the terminal now; 80 columns and 24 rows when it does not say.
func screenSize(w io.Writer) (width, height int) {
	if f, ok := w.(*os.File); ok {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
			return width, height
		}
	}
	return 80, 24
}
