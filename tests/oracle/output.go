package oracle

import (
	"bufio"
	"fmt"
	"io"
)

// WriteJSON writes the rows, sorted by window, start and key, in the format of the pipeline's own results without the
// revision.
func (r *Result) WriteJSON(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, row := range r.Rows {
		values, overflow := row.acc.values()
		fmt.Fprintf(out, `{"pipeline":%s,"window":%s,"start":%q,"end":%q,"key":%s,"values":%s`,
			encode(r.Spec.Name), encode(row.Window), stamp(row.Start), stamp(row.End), row.Key, values)
		if overflow {
			out.WriteString(`,"overflow":true`)
		}
		out.WriteString("}\n")
	}
	return out.Flush()
}
