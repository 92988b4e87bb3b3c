package cli

import (
	"encoding/json"
	"io"
	"reflect"
)

// printJSON writes v as one line of JSON. Lists without elements are written as [], never as null.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(withoutNilSlices(v))
}

// withoutNilSlices returns v with every nil slice at or below it made an empty one. What v points to is changed.
func withoutNilSlices(v any) any {
	if v == nil {
		return nil
	}
	whole := reflect.New(reflect.TypeOf(v)).Elem()
	whole.Set(reflect.ValueOf(v))
	emptyNilSlices(whole)
	return whole.Interface()
}

// emptyNilSlices makes every nil slice at or below v an empty one, except bytes, which are a text.
func emptyNilSlices(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			emptyNilSlices(v.Elem())
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			if field.CanSet() {
				emptyNilSlices(field)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			emptyNilSlices(v.Index(i))
		}
	}
}

// jsonArray writes a list as one array, each element on a line of its own as it comes, so that no list has to fit in memory. end
// must be called also when there was no element.
type jsonArray struct {
	w     io.Writer
	began bool
}

// add writes one element.
func (a *jsonArray) add(v any) error {
	separator := "["
	if a.began {
		separator = ","
	}
	a.began = true
	if _, err := io.WriteString(a.w, separator); err != nil {
		return err
	}
	return printJSON(a.w, v)
}

// end closes the array.
func (a *jsonArray) end() error {
	text := "]\n"
	if !a.began {
		text = "[]\n"
	}
	_, err := io.WriteString(a.w, text)
	return err
}

// printList writes a list as one array.
func printList[T any](w io.Writer, items []T) error {
	out := jsonArray{w: w}
	for _, item := range items {
		if err := out.add(item); err != nil {
			return err
		}
	}
	return out.end()
}
