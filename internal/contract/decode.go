package contract

import (
	"bytes"
	"encoding/json"
	"reflect"
	"sort"
	"strings"
)

// decodeKnown decodes an object into dst and collects the names of fields dst does not have, sorted. Names are compared exactly,
// so that a field in another case is not taken in silence. JSON null leaves dst as it is.
func decodeKnown(data []byte, dst any, unknown *[]string) error {
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	known := make(map[string]bool)
	for t, i := reflect.TypeOf(dst).Elem(), 0; i < t.NumField(); i++ {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		known[name] = true
	}
	var extra []string
	//workflowcheck:ignore the names are sorted below
	for name := range fields {
		if !known[name] || name == "-" {
			extra = append(extra, name)
			delete(fields, name)
		}
	}
	sort.Strings(extra)
	clean, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(clean, dst); err != nil {
		return err
	}
	*unknown = extra
	return nil
}
