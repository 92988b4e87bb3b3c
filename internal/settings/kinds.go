package settings

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/pipeline/spec"
)

// The names of the kinds, as help shows them.
const (
	kindText     = "text"
	kindList     = "list"
	kindBool     = "bool"
	kindInt      = "int"
	kindFloat    = "number"
	kindDuration = "duration"
	kindSize     = "size"
)

// The tags of YAML's scalars.
const (
	tagText  = "!!str"
	tagInt   = "!!int"
	tagFloat = "!!float"
	tagBool  = "!!bool"
)

type textValue struct {
	to    *string
	check func(string) error
	want  string
}

// Text is any text that check accepts; want says what that is. A nil check accepts everything.
func Text(to *string, want string, check func(string) error) Value {
	return &textValue{to, check, want}
}

func (v *textValue) String() string { return *v.to }
func (v *textValue) Type() string   { return kindText }
func (v *textValue) wants() string  { return v.want }

func (v *textValue) accepts(tag string) bool { return tag == tagText }

func (v *textValue) Set(text string) error {
	if v.check != nil {
		if err := v.check(text); err != nil {
			return err
		}
	}
	*v.to = text
	return nil
}

type pathValue struct{ textValue }

// Path is where a file or a directory is. The content of a file in its place is refused, and not repeated.
func Path(to *string, want string) Value { return &pathValue{textValue{to: to, want: want}} }

// check refuses what is no path. It is no part of Set, whose errors the parser of flags completes with the value.
func (v *pathValue) check(text string) error {
	if strings.Contains(text, "-----BEGIN ") || strings.ContainsAny(text, "\n\r\x00") {
		return fmt.Errorf("the value is no path, it may be what the file should hold; want the path of %s", v.want)
	}
	return nil
}

type choiceValue struct {
	to   *string
	of   []string
	fold bool
}

// Choice is one of the words; upper says that they are upper case and may be written in any.
func Choice(to *string, upper bool, words ...string) Value { return &choiceValue{to, words, upper} }

func (v *choiceValue) String() string          { return *v.to }
func (v *choiceValue) Type() string            { return kindText }
func (v *choiceValue) wants() string           { return "one of " + strings.Join(v.of, ", ") }
func (v *choiceValue) accepts(tag string) bool { return tag == tagText }

func (v *choiceValue) Set(text string) error {
	if v.fold {
		text = strings.ToUpper(text)
	}
	if !slices.Contains(v.of, text) {
		return fmt.Errorf("%q is not known; want %s", text, v.wants())
	}
	*v.to = text
	return nil
}

type listValue struct {
	to    *[]string
	split func(string) []string
	comma string // what String puts between the items
	again bool   // a flag that is given again adds to what it said before
	want  string
}

// List is a list of texts: with commas between them in a flag or a variable, a YAML list or such a text in the file.
func List(to *[]string, want string) Value {
	return &listValue{to: to, split: byCommas, comma: ",", want: want}
}

// Words is a command with its arguments: a YAML list in the file, or a text that is split at spaces and at nothing else.
func Words(to *[]string, want string) Value {
	return &listValue{to: to, split: strings.Fields, comma: " ", want: want}
}

func byCommas(text string) (items []string) {
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func (v *listValue) String() string          { return strings.Join(*v.to, v.comma) }
func (v *listValue) Type() string            { return kindList }
func (v *listValue) wants() string           { return v.want }
func (v *listValue) accepts(tag string) bool { return tag == tagText }

func (v *listValue) Set(text string) error {
	items := v.split(text)
	if v.again {
		items = append(*v.to, items...)
	}
	v.again = true
	*v.to = items
	return nil
}

type boolValue struct{ to *bool }

// Bool is true or false; a variable may also say 1, 0, yes, no, on and off.
func Bool(to *bool) Value { return &boolValue{to} }

func (v *boolValue) String() string          { return strconv.FormatBool(*v.to) }
func (v *boolValue) Type() string            { return kindBool }
func (v *boolValue) wants() string           { return "true or false" }
func (v *boolValue) accepts(tag string) bool { return tag == tagBool }

func (v *boolValue) Set(text string) error {
	on, err := parseBool(text)
	if err == nil {
		*v.to = on
	}
	return err
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "1", "true", "yes", "on":
		return true, nil
	case "0", "false", "no", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is not true or false; want true or false", text)
}

// Switch is on, off, or left to what else is set.
type Switch int

// The states of a Switch.
const (
	Unset Switch = iota
	Off
	On
)

type switchValue struct{ to *Switch }

// OnOff is a Bool that also knows that nobody has set it.
func OnOff(to *Switch) Value { return &switchValue{to} }

func (v *switchValue) String() string {
	return [...]string{Unset: "", Off: "false", On: "true"}[*v.to]
}
func (v *switchValue) Type() string            { return kindBool }
func (v *switchValue) wants() string           { return "true or false" }
func (v *switchValue) accepts(tag string) bool { return tag == tagBool }

func (v *switchValue) Set(text string) error {
	on, err := parseBool(text)
	switch {
	case err != nil:
		return err
	case on:
		*v.to = On
	default:
		*v.to = Off
	}
	return nil
}

type intValue struct {
	to          *int
	least, most int
}

// Int is a whole number within bounds.
func Int(to *int, least, most int) Value { return &intValue{to, least, most} }

func (v *intValue) String() string { return strconv.Itoa(*v.to) }
func (v *intValue) Type() string   { return kindInt }
func (v *intValue) wants() string {
	return fmt.Sprintf("a whole number from %d to %d", v.least, v.most)
}
func (v *intValue) accepts(tag string) bool { return tag == tagInt }

func (v *intValue) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < v.least || n > v.most {
		return fmt.Errorf("%q is not valid; want %s", text, v.wants())
	}
	*v.to = n
	return nil
}

type shareValue struct {
	to   *float64
	none bool // 0 is valid, too
}

// Share is a part of one: above 0 and up to 1.
func Share(to *float64) Value { return &shareValue{to, false} }

// ShareOrNone is a part of one: 0 to 1.
func ShareOrNone(to *float64) Value { return &shareValue{to, true} }

func (v *shareValue) String() string          { return strconv.FormatFloat(*v.to, 'g', -1, 64) }
func (v *shareValue) Type() string            { return kindFloat }
func (v *shareValue) accepts(tag string) bool { return tag == tagInt || tag == tagFloat }

func (v *shareValue) wants() string {
	if v.none {
		return "a share, 0 to 1"
	}
	return "a share above 0 and up to 1"
}

func (v *shareValue) Set(text string) error {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n > 0 && n <= 1 || v.none && n == 0) { // NaN is refused too
		return fmt.Errorf("%q is not valid; want %s", text, v.wants())
	}
	*v.to = n
	return nil
}

type durationValue struct {
	to          *Duration
	least, most time.Duration
}

// Span is a duration within bounds, most 0 for no upper one.
func Span(to *time.Duration, least, most time.Duration) Value {
	return &durationValue{(*Duration)(to), least, most}
}

func (v *durationValue) String() string { return v.to.String() }
func (v *durationValue) Type() string   { return kindDuration }
func (v *durationValue) wants() string {
	if v.most == 0 {
		return fmt.Sprintf("a duration of at least %s, such as 90s, 10m or 1d", spec.Duration(v.least))
	}
	return fmt.Sprintf("a duration from %s to %s", spec.Duration(v.least), spec.Duration(v.most))
}
func (v *durationValue) accepts(tag string) bool { return tag == tagText }

func (v *durationValue) Set(text string) error {
	var d Duration
	if err := d.Set(text); err != nil {
		return err
	}
	if t := time.Duration(d); t < v.least || v.most != 0 && t > v.most {
		return fmt.Errorf("%s is out of range; want %s", text, v.wants())
	}
	*v.to = d
	return nil
}

type sizeValue struct{ *Size }

// Bytes is a number of bytes.
func Bytes(to *Size) Value { return sizeValue{to} }

func (sizeValue) wants() string           { return wantSize }
func (sizeValue) accepts(tag string) bool { return tag == tagText || tag == tagInt }

type sizeOrNoneValue struct{ sizeValue }

// BytesOrNone is a number of bytes, or 0.
func BytesOrNone(to *Size) Value { return sizeOrNoneValue{sizeValue{to}} }

func (sizeOrNoneValue) wants() string { return wantSize + ", or 0" }

func (v sizeOrNoneValue) String() string {
	if *v.Size == 0 {
		return "0"
	}
	return v.Size.String()
}

func (v sizeOrNoneValue) Set(text string) error {
	if text == "0" {
		*v.Size = 0
		return nil
	}
	if v.Size.Set(text) != nil {
		return fmt.Errorf("%q is no size; want %s", text, v.wants())
	}
	return nil
}

type secretValue struct{ to *string }

// Secret is a text that is never shown.
func Secret(to *string) Value { return &secretValue{to} }

func (v *secretValue) String() string {
	if *v.to == "" {
		return ""
	}
	return "(set)"
}
func (v *secretValue) Type() string            { return kindText }
func (v *secretValue) wants() string           { return "a text, in quotes" }
func (v *secretValue) accepts(tag string) bool { return tag == tagText }

func (v *secretValue) Set(text string) error {
	*v.to = text
	return nil
}
