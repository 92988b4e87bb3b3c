package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"millrace/pipeline/window"
)

// instant renders milliseconds since the epoch; "-" when there is no time yet.
func instant(ms int64) string {
	if ms == window.NoTime {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.999Z")
}

// table aligns columns: numbers to the right, everything else to the left.
type table struct {
	rows [][]string
}

func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = fmt.Sprint(cell)
	}
	t.rows = append(t.rows, row)
}

// write prints the table, each line after indent.
func (t *table) write(w io.Writer, indent string) error {
	var width []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		line := indent
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if numeric(cell) {
				line += pad + cell + "  "
			} else {
				line += cell + pad + "  "
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func numeric(cell string) bool {
	digit := false
	for i, r := range cell {
		switch {
		case r >= '0' && r <= '9':
			digit = true
		case r == '.' || r == ',' || i == 0 && r == '-' || digit && strings.ContainsRune("kMG%", r):
		default:
			return false
		}
	}
	return digit
}
