package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// table is a small table, one row of each kind.
type table struct {
	text, choice, password, passwordFile string
	list, words                          []string
	on                                   bool
	tls                                  Switch
	count                                int
	share                                float64
	span                                 time.Duration
	size                                 Size
}

func (t *table) rows() []Setting {
	return []Setting{
		{Name: "a.text", Env: "A_TEXT", Flag: "text", Value: Text(&t.text, "a name", nil)},
		{Name: "a.choice", Env: "A_CHOICE", Flag: "choice", Value: Choice(&t.choice, true, "ONE", "TWO")},
		{Name: "a.list", Env: "A_LIST", Flag: "list", Value: List(&t.list, "host:port")},
		{Name: "a.words", Env: "A_WORDS", Flag: "words", Value: Words(&t.words, "a program")},
		{Name: "b.on", Env: "B_ON", Flag: "on", Value: Bool(&t.on)},
		{Name: "b.tls.enabled", Env: "B_TLS", Flag: "tls", Value: OnOff(&t.tls)},
		{Name: "b.count", Env: "B_COUNT", Flag: "count", Value: Int(&t.count, 1, 9)},
		{Name: "b.share", Env: "B_SHARE", Flag: "share", Value: Share(&t.share)},
		{Name: "b.span", Env: "B_SPAN", Flag: "span", Value: Span(&t.span, time.Second, time.Hour), Worker: true},
		{Name: "b.size", Env: "B_SIZE", Flag: "size", Value: Bytes(&t.size)},
		{Name: "b.password", Env: "B_PASSWORD", Secret: true, Value: Secret(&t.password)},
		{Name: "b.password_file", Env: "B_PASSWORD_FILE", Flag: "password-file", Value: Path(&t.passwordFile, "a file")},
	}
}

// read reads what is given, as a worker if worker is set.
func (t *table) read(tb testing.TB, file string, env map[string]string, worker bool, args ...string) (*Set, error) {
	tb.Helper()
	set := NewSet(t.rows())
	flags := pflag.NewFlagSet("t", pflag.ContinueOnError)
	set.AddFlags(flags, worker)
	require.NoError(tb, flags.Parse(args))
	path := ""
	if file != "" {
		path = filepath.Join(tb.TempDir(), "f.yaml")
		require.NoError(tb, os.WriteFile(path, []byte(file), 0o600))
	}
	err := set.Resolve(Source{Getenv: func(k string) string { return env[k] }, Flags: flags, File: path, Worker: worker})
	return set, err
}

func TestEveryKindFromEverywhere(t *testing.T) {
	want := table{
		text: "x", choice: "TWO", password: "s", list: []string{"h:1", "i:2"}, words: []string{"get", "token"}, on: true, tls: On, count: 3,
		share: 0.5, span: time.Minute, size: 1 << 20,
	}
	const file = `
a: {text: x, choice: two, list: [h:1, i:2], words: [get, token]}
b: {on: true, tls: {enabled: true}, count: 3, share: 0.5, span: 1m, size: 1MiB, password: s}
`
	env := map[string]string{"A_TEXT": "x", "A_CHOICE": "two", "A_LIST": "h:1, i:2", "A_WORDS": "get token", "B_ON": "yes", "B_TLS": "on",
		"B_COUNT": "3", "B_SHARE": "0.5", "B_SPAN": "60s", "B_SIZE": "1048576", "B_PASSWORD": "s"}
	args := []string{"--text", "x", "--choice", "two", "--list", "h:1", "--list", "i:2", "--words", "get token", "--on", "--tls",
		"--count", "3", "--share", "0.5", "--span", "1m", "--size", "1MiB"}
	other := map[string]string{"A_TEXT": "other", "A_CHOICE": "ONE", "A_LIST": "o:1", "A_WORDS": "o", "B_ON": "0", "B_TLS": "0",
		"B_COUNT": "1", "B_SHARE": "0.1", "B_SPAN": "1s", "B_SIZE": "1KiB", "B_PASSWORD": "s"}
	for _, c := range []struct {
		name, file string
		env        map[string]string
		args       []string
	}{
		{"file", file, nil, nil}, {"variables", "", env, nil}, {"variables over a file", "a: {text: other}\nb: {count: 1, on: false}", env, nil},
		{"flags over variables", file, other, args},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got table
			_, err := got.read(t, c.file, c.env, true, c.args...)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
	var off table
	_, err := off.read(t, "b: {on: true, tls: {enabled: true}}", nil, true, "--on=false", "--tls=false")
	require.NoError(t, err)
	require.Equal(t, table{tls: Off}, off)
}

func TestStrictFile(t *testing.T) {
	for _, c := range []struct{ name, file, says string }{
		{"unknown", "a:\n  tixt: x", ":2: a.tixt: is no setting; did you mean a.text?"},
		{"unknown, with nothing like it", "a: {zzzzzz: hunter2}", ":1: a.zzzzzz: is no setting; want one of choice, list, text, words"},
		{"unknown, without a space", "b: {password:hunter2}", ":1: b: has a field that cannot be a setting by its name; is there a space behind"},
		{"unknown, of two lines", "b: {\"pass\\nword hunter2\": x}", ":1: b: has a field that cannot be a setting by its name"},
		{"no setting, with dots", "b.hunter2@example.com: 3", ":1: has a field that cannot be a setting by its name"},
		{"merged", "b: {<<: {password: hunter2}}", ":1: b.<<: is no setting"},
		{"content for a path", "b: {password_file: \"-----BEGIN PRIVATE KEY-----\\nhunter2\"}", ":1: b.password_file: the value is no path"},
		{"unknown group", "zzzzzzzz: {x: hunter2}", ":1: zzzzzzzz: is no setting; want one of a, b"},
		{"dotted", "b.count: 3", ":1: b.count: is written with a dot"},
		{"twice", "a: {text: x}\nb: {}\na: {text: y}", ":3: a: is there twice, first in line 1"},
		{"twice in a group", "a:\n  text: x\n  text: y", ":3: a.text: is there twice, first in line 2"},
		{"number for a text", "a: {text: 12}", `:1: a.text: "12" is a number; want a name`},
		{"text for a number", "b: {count: three}", `:1: b.count: "three" is a text; want a whole number from 1 to 9`},
		{"text for a bool", `b: {on: "true"}`, `:1: b.on: "true" is a text; want true or false`},
		{"number for a duration", "b: {span: 60}", `:1: b.span: "60" is a number; want a duration from 1s to 1h`},
		{"out of range", "b: {count: 10}", `:1: b.count: "10" is not valid; want a whole number from 1 to 9`},
		{"duration out of range", "b: {span: 2h}", ":1: b.span: 2h is out of range; want a duration from 1s to 1h"},
		{"no choice", "a: {choice: three}", `:1: a.choice: "THREE" is not known; want one of ONE, TWO`},
		{"share", "b: {share: 1.5}", `"1.5" is not valid; want a share above 0 and up to 1`},
		{"group for a value", "a: {text: {x: 1}}", ":1: a.text: is a mapping; want a name"},
		{"value for a group", "a: x", ":1: a: is not a mapping; want one of choice, list, text, words"},
		{"list of numbers", "a: {list: [1]}", ":1: a.list: holds a number; want texts"},
		{"nothing", "a: {text: }", ":1: a.text: \"\" is empty; want a name"},
		{"alias", "a: &x {text: y}\nb: *x", ":2: b: is not a mapping"},
		{"secret as a number", "b: {password: 4711}", ":1: b.password: the value is a number; want a text, in quotes"},
		{"secret as an alias", "b: {password: *hunter2}", ":1: unknown anchor ... referenced"},
		{"secret in what is no YAML", "b: {password: \"hunter2\\q\"}", ":1: found unknown escape character"},
		{"second document", "a: {}\n---\nb: {}", ":2: a second document begins here; want one"},
		{"not a mapping", "- a", ":1: is not a mapping; want one of a, b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got table
			_, err := got.read(t, c.file, nil, true)
			require.ErrorContains(t, err, c.says)
			for _, secret := range []string{"hunter2", "4711"} {
				require.NotContains(t, err.Error(), secret)
			}
		})
	}
	var none table
	_, err := none.read(t, "# nothing\n", nil, true)
	require.NoError(t, err)
}

// TestEveryProblem is reported at once, a line each, also of what a variable then says otherwise.
func TestEveryProblem(t *testing.T) {
	var got table
	_, err := got.read(t, "a: {text: 1, tixt: x}\nb: {count: 0}", map[string]string{"B_COUNT": "2", "B_SIZE": "lots"}, true)
	var problems Problems
	require.ErrorAs(t, err, &problems)
	require.Len(t, problems, 4)
	require.Contains(t, err.Error(), `B_SIZE: "lots" is no size`)
}

func TestFileThatCannotBeRead(t *testing.T) {
	var got table
	_, err := got.read(t, strings.Repeat("x", MaxFileBytes+1), nil, true)
	require.ErrorContains(t, err, "has more than 1048576 bytes, the limit of a configuration file")
	set := NewSet(got.rows())
	err = set.Resolve(Source{Getenv: func(string) string { return "" }, Flags: pflag.NewFlagSet("t", pflag.ContinueOnError), File: "/none.yaml"})
	require.EqualError(t, err, "configuration file open /none.yaml: no such file or directory")
}

// TestWhatOnlyAWorkerReads is not read by another program, but may stand in the file that both read.
func TestWhatOnlyAWorkerReads(t *testing.T) {
	var got table
	_, err := got.read(t, "b: {span: 2m}", map[string]string{"B_SPAN": "nonsense"}, false)
	require.NoError(t, err)
	require.Equal(t, 2*time.Minute, got.span)
}

func TestPrintHidesSecrets(t *testing.T) {
	var got table
	set, err := got.read(t, "a: {text: x}", map[string]string{"B_PASSWORD": "hunter2", "B_COUNT": "3"}, true, "--list", "h:1")
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, set.Print(&out))
	require.NotContains(t, out.String(), "hunter2")
	for _, line := range []string{`b\.password +\(set\) +B_PASSWORD`, `a\.text +x +.*f\.yaml:1`, `b\.count +3 +B_COUNT`, `a\.list +h:1 +--list`,
		`a\.choice +- +default`} {
		require.Regexp(t, "(?m)^"+line+"$", out.String())
	}
	require.True(t, set.Given("a.text"))
	require.False(t, set.Given("a.choice"))
	require.NotContains(t, set.VariablesHelp(true)+set.Markdown(), "hunter2")
}

// TestContentForAPath is refused from everywhere, and repeated nowhere.
func TestContentForAPath(t *testing.T) {
	for _, content := range []string{"-----BEGIN PRIVATE KEY----- hunter2", "hunter2\nhunter2"} {
		var got table
		_, err := got.read(t, "", map[string]string{"B_PASSWORD_FILE": content}, true)
		require.EqualError(t, err, "B_PASSWORD_FILE: the value is no path, it may be what the file should hold; want the path of a file")
		_, err = got.read(t, "", nil, true, "--password-file", content)
		require.EqualError(t, err, "--password-file: the value is no path, it may be what the file should hold; want the path of a file")
	}
}

func TestSecretTwice(t *testing.T) {
	var got table
	_, err := got.read(t, "", map[string]string{"B_PASSWORD": "hunter2", "B_PASSWORD_FILE": "/run/secret"}, true)
	require.EqualError(t, err, "b.password (B_PASSWORD) and b.password_file (B_PASSWORD_FILE) are both set; leave one of them out")
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"1": 1, "4GiB": 4 << 30, "512 MiB": 512 << 20, "1TiB": 1 << 40} {
		var s Size
		require.NoError(t, s.Set(text))
		require.Equal(t, want, s)
	}
	require.Equal(t, "512MiB", func() string { s := Size(512 << 20); return s.String() }())
	require.Equal(t, "1000", func() string { s := Size(1000); return s.String() }())
	for _, text := range []string{"", "lots", "-1GiB", "99999999999TiB"} {
		require.ErrorContains(t, new(Size).Set(text), "is no size")
	}
	size := Size(5)
	v := BytesOrNone(&size)
	require.Error(t, Bytes(&size).Set("0"))
	require.NoError(t, v.Set("0"))
	require.Zero(t, size)
	require.Equal(t, "0", v.String())
	require.NoError(t, v.Set("3MiB"))
	require.Equal(t, "3MiB", v.String())
	require.ErrorContains(t, v.Set("-1"), "or 0")
}

func TestShares(t *testing.T) {
	var to float64
	for _, c := range []struct {
		text        string
		share, none bool // whether each kind takes it
	}{
		{"0.5", true, true}, {"1", true, true}, {"0", false, true}, {"-0.1", false, false}, {"1.1", false, false}, {"NaN", false, false},
	} {
		require.Equal(t, c.share, Share(&to).Set(c.text) == nil, "Share %s", c.text)
		require.Equal(t, c.none, ShareOrNone(&to).Set(c.text) == nil, "ShareOrNone %s", c.text)
	}
}
