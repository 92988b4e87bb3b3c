package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"millrace/internal/contract"
	"millrace/internal/tune"
	"millrace/pipeline/lane"
	"millrace/pipeline/report"
)

// drawStatus prints a view whole, every lane in the order of its name.
func drawStatus(w io.Writer, v statusView) error {
	drawHead(w, v)
	drawConditions(w, v.Standing)
	drawKept(w, v)
	drawRemoval(w, v.Removal)
	for _, child := range v.Children {
		fmt.Fprintln(w, "  "+childLine(child))
	}
	for _, m := range v.Memory {
		fmt.Fprintln(w, "  "+memoryText(m))
	}
	for _, storm := range v.Storms {
		fmt.Fprintln(w, "  "+stormLine(storm))
	}
	drawFormat(w, v.Lanes)
	t := &table{}
	t.row("LANE", "STATE", "OFFSET", "LAG", "RATE", "WATERMARK", "SLICES", "FOLDED", "LATE", "INVALID", "REASON")
	for i := range v.Lanes {
		l := &v.Lanes[i]
		t.row(l.name(), laneState(l), l.Offset, l.Lag, short(l.Rate), markText(l.Watermark), l.Slices, l.Counters.Folded,
			l.Counters.Late, l.Counters.Refused(), cutText(laneReason(l), reasonWidth))
	}
	return t.write(w, "")
}

// reasonWidth is how many characters of a lane's reason stand in a table; `status NAME LANE` shows all.
const reasonWidth = 72

func drawHead(w io.Writer, v statusView) {
	fmt.Fprintf(w, "pipeline %s: %s\n", v.Pipeline, v.Standing.Line)
	if v.LanesAt == nil {
		fmt.Fprintln(w, "the lanes have not been read: watermark, open windows and lag are not known")
	} else {
		fmt.Fprintf(w, "watermark %s, %s, %d closed but open to late events, lag %d, %s records/s\n",
			markText(v.Watermark)+heldText(v.Holder), counted(v.Open, "open window"), v.Waiting, v.Lag, short(v.Rate))
	}
	for _, p := range v.Pending {
		who := "it"
		if p.Update != "" {
			who = p.Update + " " + p.RequestID
		}
		fmt.Fprintf(w, "%s %s\n", who, p)
	}
}

// heldText names the lane that holds the watermark.
func heldText(h *holderView) string {
	if h == nil {
		return ""
	}
	return fmt.Sprintf(" (held by %s since %s)", h.Lane, h.Since.Format(time.RFC3339))
}

func markText(ms *int64) string {
	if ms == nil {
		return "-"
	}
	return instant(*ms)
}

// markToday leaves the date out when it is today's.
func markToday(ms *int64, now time.Time) string {
	if ms == nil {
		return "-"
	}
	at := time.UnixMilli(*ms).UTC()
	if at.Format(time.DateOnly) == now.UTC().Format(time.DateOnly) {
		return at.Format("15:04:05")
	}
	return at.Format("2006-01-02T15:04:05")
}

func laneState(l *laneLine) string {
	if l.Idle {
		return l.State + ", idle"
	}
	return l.State
}

// laneReason is a lane's reason in one line.
func laneReason(l *laneLine) string {
	reason := firstLine(l.Reason)
	if len(l.Choices) > 0 {
		reason = strings.Join(l.Choices, "|") + ": " + reason
	}
	return reason
}

// drawConditions prints what keeps a pipeline from its work, a line each with the command that leads out.
func drawConditions(w io.Writer, s contract.Standing) {
	for _, c := range s.Conditions {
		fmt.Fprintln(w, "  ! "+conditionLine(c))
	}
	if s.More > 0 {
		fmt.Fprintf(w, "  ! and %d more\n", s.More)
	}
}

// conditionLine says what, of what, since when, until when, what leads out, and why: the longest comes last, where a screen cuts.
func conditionLine(c contract.Condition) string {
	text := c.Kind
	if c.Subject != "" && c.Subject != c.Kind { // a workflow that failed is the condition "failed" itself
		text += " " + c.Subject
	}
	if !c.Since.IsZero() {
		text += " since " + c.Since.UTC().Format(time.RFC3339)
	}
	if !c.Until.IsZero() {
		text += " until " + c.Until.UTC().Format(time.RFC3339)
	}
	if c.Command != "" {
		text += " -> `" + c.Command + "`"
	}
	if reason := firstLine(c.Reason); reason != "" {
		text += ": " + reason
	}
	return text
}

func childLine(c contract.ChildState) string {
	text := c.ID + ": " + c.State
	if c.Worker != "" {
		text += " on " + c.Worker
	}
	if c.Note != "" {
		text += " (" + c.Note + ")"
	}
	return text
}

func memoryText(m memoryView) string {
	text := fmt.Sprintf("memory of replica %d: lanes hold %s of %s", m.Replica, tune.Bytes(m.Lanes), tune.Bytes(m.LaneLimit))
	if m.GoLimit > 0 {
		text += fmt.Sprintf("; its worker's limit is %s (%s)", tune.Bytes(m.GoLimit), m.GoLimitWhy)
	}
	return text
}

func drawRemoval(w io.Writer, r *removalView) {
	if r == nil {
		return
	}
	fmt.Fprintf(w, "REMOVAL %s has fenced %s of the pipeline", r.WorkflowID, counted(r.Fenced, "lane"))
	switch {
	case r.Running:
		fmt.Fprintf(w, " and goes on (%s); follow it with `%s`\n", r.Note, r.Command)
	case r.Note != "":
		fmt.Fprintf(w, " and ended before it was done (%s); finish it with `%s`\n", r.Note, r.Command)
	default:
		fmt.Fprintf(w, " and has not ended; finish it with `%s`\n", r.Command)
	}
}

// drawKept says what is kept of windows that were published, and when the closer said so: it counts at the end of a round,
// knows no row before it has taken over the ledger's partitions, and its heartbeats may be a minute apart.
func drawKept(w io.Writer, v statusView) {
	k := v.Kept
	switch {
	case k == nil && !v.askedKept:
		return
	case k == nil:
		fmt.Fprintln(w, "kept: not counted yet")
		return
	case *k == (report.Kept{}):
		fmt.Fprint(w, "kept: no ledger row counted yet")
	default:
		fmt.Fprintf(w, "kept: %s, %s with contents", counted(k.Rows, "ledger row"), counted(k.Results, "window"))
		if k.Oldest != 0 {
			fmt.Fprintf(w, ", the oldest final since %s", instant(k.Oldest))
		}
		fmt.Fprintf(w, ", sweep backlog %d", k.Backlog)
	}
	if v.KeptAt != nil {
		fmt.Fprintf(w, " (reported at %s)", v.KeptAt.UTC().Format(time.RFC3339))
	}
	fmt.Fprintln(w)
}

// Parts of a screen that is too small for everything.
const (
	screenConditions = 6
	screenChildren   = 3
	leastLanes       = 5 // rows that lanes keep whatever else there is to show
)

// drawScreen fits a view into a terminal of width columns and height rows: the head, the worst conditions, children that are not
// as they should be, and as many lanes as there is room for, the worst first.
func drawScreen(v statusView, now time.Time, width, height int) string {
	var head strings.Builder
	drawHead(&head, v)
	if v.LanesAt != nil && now.Sub(*v.LanesAt) > lookLimit {
		fmt.Fprintf(&head, "lanes as of %s, %s ago\n", v.LanesAt.UTC().Format(time.RFC3339), now.Sub(*v.LanesAt).Round(time.Second))
	}
	lines := wrapLines(strings.TrimRight(head.String(), "\n"), width)
	lines = append(lines, screenConditionLines(v, min(screenConditions, max(1, height-4-leastLanes)))...)
	var children strings.Builder
	drawChildren(&children, v.Children)
	lines = append(lines, strings.Split(strings.TrimRight(children.String(), "\n"), "\n")...)
	room := max(height-1-len(lines)-1, leastLanes) // the last row stays free, one is the table's head
	lines = append(lines, laneRows(v.Lanes, now, room)...)
	for i := range lines {
		lines[i] = cutText(lines[i], width)
	}
	return strings.Join(lines[:min(len(lines), max(height-1, 1))], "\n") + "\n"
}

// screenConditionLines are the worst conditions without their commands, for which a screen has no room: the first line names that of
// the worst.
func screenConditionLines(v statusView, most int) []string {
	var lines []string
	shown := v.Standing.Conditions[:min(len(v.Standing.Conditions), most)]
	for _, c := range shown {
		c.Command, c.Since = "", time.Time{}
		lines = append(lines, "  ! "+conditionLine(c))
	}
	if more := len(v.Standing.Conditions) - len(shown) + v.Standing.More; more > 0 {
		lines = append(lines, fmt.Sprintf("  ! and %d more: millrace status %s --once", more, v.Pipeline))
	}
	return lines
}

// wrapLines breaks lines that are wider than a screen at spaces, and words that are wider by themselves where they end.
func wrapLines(text string, width int) []string {
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		for utf8.RuneCountInString(line) > width && width > 1 {
			runes := []rune(line)
			at := strings.LastIndexByte(string(runes[:width]), ' ')
			if at <= 0 {
				at = len(string(runes[:width]))
			}
			lines = append(lines, line[:at])
			line = strings.TrimLeft(line[at:], " ")
		}
		lines = append(lines, line)
	}
	return lines
}

// drawChildren lists children in trouble and counts the rest.
func drawChildren(w io.Writer, children []contract.ChildState) {
	well, workers := 0, make(map[string]int)
	shown := 0
	for _, c := range children {
		switch {
		case c.State == contract.ChildPlaced:
			workers[c.Worker]++
			well++
		case c.State == contract.ChildClosing, c.State == contract.ChildRunning:
			well++
		case shown < screenChildren:
			shown++
			fmt.Fprintln(w, "  "+childLine(c))
		}
	}
	var placed []string
	for worker, n := range workers {
		placed = append(placed, fmt.Sprintf("%d on %s", n, worker))
	}
	slices.Sort(placed)
	if well > 0 {
		fmt.Fprintf(w, "%d of %d children are well", well, len(children))
		if len(placed) > 0 {
			fmt.Fprintf(w, ", hot paths: %s", strings.Join(placed, ", "))
		}
		fmt.Fprintln(w)
	}
}

// laneRows renders the worst lanes in at most room rows below the table's head; the last one counts those left out.
func laneRows(lanes []laneLine, now time.Time, room int) []string {
	worst := slices.Clone(lanes)
	slices.SortStableFunc(worst, func(a, b laneLine) int {
		return cmp.Or(cmp.Compare(laneTrouble(&b), laneTrouble(&a)), cmp.Compare(b.Lag, a.Lag))
	})
	shown := worst
	if len(worst) > room {
		shown = worst[:max(room-1, 0)]
	}
	t := &table{}
	t.row("LANE", "STATE", "LAG", "RATE", "WATERMARK", "REFUSED", "REASON")
	for i := range shown {
		l := &shown[i]
		t.row(l.name(), laneState(l), short(float64(l.Lag)), short(l.Rate), markToday(l.Watermark, now), l.Counters.Refused(), laneReason(l))
	}
	var out strings.Builder
	_ = t.write(&out, "") // a Builder takes everything
	rows := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if left := worst[len(shown):]; len(left) > 0 {
		rows = append(rows, leftOutText(left))
	}
	return rows
}

// leftOutText counts lanes by state, with their lag.
func leftOutText(left []laneLine) string {
	states, lag := make(map[string]int), int64(0)
	for i := range left {
		states[laneState(&left[i])]++
		lag += left[i].Lag
	}
	var parts []string
	for state, n := range states {
		parts = append(parts, fmt.Sprintf("%d %s", n, state))
	}
	slices.Sort(parts)
	return fmt.Sprintf("and %s more: %s; lag %s", counted(len(left), "lane"), strings.Join(parts, ", "), short(float64(lag)))
}

// laneTrouble ranks lanes by lane.Trouble, also those that no hot path has, and among equals puts those with a reason first.
func laneTrouble(l *laneLine) int {
	state := l.State
	switch state {
	case stateFenced, stateBad:
		state = lane.StateParked
	case stateNew:
		state = lane.StateAcquiring
	}
	rank := 2 * lane.Trouble(state)
	if l.Reason != "" {
		rank++
	}
	return rank
}

// cutText shortens a text to width characters.
func cutText(text string, width int) string {
	if width <= 1 || utf8.RuneCountInString(text) <= width {
		return text
	}
	runes := []rune(text)
	return string(runes[:width-1]) + "…"
}
