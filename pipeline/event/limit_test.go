package event

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

// The limit is that of the text as it is published, whatever the record wrote.
func TestValueLimitIsThatOfThePublishedText(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	alphabet := []string{"a", "é", "😀", `"`, `\`, "\n", "\r", "\t", "\b", "\x00", "\x1f", "\x7f", "/", "<"}
	accepted, refused := 0, 0
	for range 4000 {
		var text []byte
		for range r.IntN(24) {
			text = append(text, alphabet[r.IntN(len(alphabet))]...)
		}
		published := AppendString(nil, text)
		limit := max(1, len(published)-3+r.IntN(7))
		d, err := NewDecoder(testSpec(t, func(s *spec.Spec) { s.Event.MaxValueBytes = limit }))
		require.NoError(t, err)
		var ev Event
		record := strings.Replace(good, `"new"`, `"n"`, 1)
		err = d.Decode([]byte(strings.Replace(record, `"note":"n"`, `"note":`+string(published), 1)), &ev)
		if limit < len(`"n"`) {
			require.Error(t, err)
			continue
		}
		if len(published) <= limit {
			require.NoError(t, err, "%q of %d bytes under %d", text, len(published), limit)
			require.Equal(t, string(text), string(ev.Values[2].Str))
			accepted++
			continue
		}
		var invalid *Invalid
		require.ErrorAs(t, err, &invalid, "%q of %d bytes over %d", text, len(published), limit)
		require.Equal(t, Invalid{Reason: ValueTooLarge, Field: "note", Limit: limit}, *invalid)
		refused++
	}
	require.Greater(t, accepted, 1000)
	require.Greater(t, refused, 1000)
}

// A text that only the filter or a key looks at is not published, so nothing bounds it.
func TestValueLimitIsForPublishedTextsOnly(t *testing.T) {
	d, err := NewDecoder(testSpec(t, func(s *spec.Spec) {
		s.Where = `len(remark) > 50 && paid`
	}))
	require.NoError(t, err)
	var ev Event
	require.NoError(t, d.Decode([]byte(with(`{"at"`, `{"remark":"`+strings.Repeat("r", 60)+`","at"`)), &ev))
	require.False(t, ev.Filtered)
	d, err = NewDecoder(testSpec(t))
	require.NoError(t, err)
	require.NoError(t, d.Decode([]byte(with(`"weight":1.5`, `"weight":1`+strings.Repeat("0", 60))), &ev))
}

func TestInvalidNamesTheLimit(t *testing.T) {
	d, err := NewDecoder(testSpec(t))
	require.NoError(t, err)
	require.EqualError(t, d.Decode([]byte(with(`"n"`, `"`+strings.Repeat("n", 39)+`"`)), &Event{}),
		"value_too_large: note takes more than the 40 bytes of event.max_value_bytes")
	require.EqualError(t, d.Decode([]byte(with(`DE`, strings.Repeat("D", 60))), &Event{}),
		"key_too_large: shop.id: the key takes more than the 64 bytes of event.max_key_bytes")
}
