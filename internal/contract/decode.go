package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sort"
	"strings"
)

// wants says, by field, what a value of the wrong type should have been, where the field's type alone does not say it.
type wants map[string]string

// decodeKnown decodes an object into dst. What is wrong with it is no error of the decoding, whose text Temporal would wrap, but
// collected for Validate: in unknown the names of fields that dst does not have, sorted, and in wrong the first value that does
// not fit its field, as in `grace_seconds is "1m"; want whole seconds, 1 to 86400`. Names are compared exactly, so that a field in another
// case is not taken in silence. JSON null leaves dst as it is.
func decodeKnown(data []byte, dst any, want wants, unknown *[]string, wrong *string) error {
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		var mistyped *json.UnmarshalTypeError
		if !errors.As(err, &mistyped) {
			return err
		}
		*wrong = fmt.Sprintf("the input is %s; want an object with fields", excerpt(data))
		return nil
	}
	value := reflect.ValueOf(dst).Elem()
	known := make(map[string]bool)
	for t, i := value.Type(), 0; i < t.NumField(); i++ {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		known[name] = true
		if text, given := fields[name]; given {
			if problem := decodeField(text, name, value.Field(i), want[name]); problem != "" && *wrong == "" {
				*wrong = problem
			}
		}
	}
	var extra []string
	//workflowcheck:ignore the names are sorted below
	for name := range fields {
		if !known[name] {
			extra = append(extra, name)
		}
	}
	sort.Strings(extra)
	*unknown = extra
	return nil
}

// decodeField decodes one value, or says in words of JSON what is wrong with it.
func decodeField(text json.RawMessage, name string, into reflect.Value, want string) (problem string) {
	err := json.Unmarshal(text, into.Addr().Interface())
	if err == nil {
		return ""
	}
	into.SetZero()
	var mistyped *json.UnmarshalTypeError
	if errors.As(err, &mistyped) && mistyped.Field != "" { // deep inside a value
		return fmt.Sprintf("%s.%s is a %s; want %s", name, mistyped.Field, mistyped.Value, typeOf(mistyped.Type))
	}
	if want == "" {
		want = typeOf(into.Type())
	}
	return fmt.Sprintf("%s is %s; want %s", name, excerpt(text), want)
}

// typeOf names a type in words of JSON.
func typeOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeOf(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "a list"
	}
	return "an object"
}

// excerpt is JSON on one line, cut to a length that a message can hold.
func excerpt(data []byte) string {
	var line bytes.Buffer
	if json.Compact(&line, data) != nil {
		line.Reset()
		line.Write(data)
	}
	const most = 60
	if text := []rune(line.String()); len(text) > most {
		return string(text[:most]) + "…"
	}
	return line.String()
}

// refuse puts what decodeKnown has collected into an error; name is what the input is for.
func refuse(name, wrong string, unknown []string, want string) error {
	switch {
	case wrong != "":
		return fmt.Errorf("%s: %s", name, wrong)
	case len(unknown) == 0:
		return nil
	case len(unknown) == 1:
		return fmt.Errorf("%s: unknown field %q; want only %s", name, unknown[0], want)
	}
	return fmt.Errorf("%s: unknown fields %q; want only %s", name, strings.Join(unknown, ", "), want)
}
