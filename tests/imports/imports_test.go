// Package imports holds the rules of who may import whom, the same as .golangci.yml does for those who have its tool.
package imports

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rule forbids imports in the packages at and below dirs. Test files are free, except where tests says so.
type rule struct {
	name   string
	dirs   []string // "" is the whole module
	except []string // directories below dirs the rule does not hold for
	deny   []string // import path prefixes
	allow  []string // longer prefixes that deny does not mean
	tests  bool
}

// standardLibrary stands for every package of the standard library in a rule's list.
const standardLibrary = "std"

var rules = []rule{
	{
		name: "the hot path is free of Temporal and of everything above it",
		dirs: []string{"pipeline"},
		deny: []string{"go.temporal.io", "millrace/workflows", "millrace/activities", "millrace/internal", "millrace/worker", "millrace/starter"},
	},
	{
		name: "folding is deterministic: no context, no lock, no clock, no I/O",
		dirs: []string{"pipeline/lane/fold"}, except: []string{"pipeline/lane/fold/foldtest"},
		deny: []string{"context", "sync", "time", "math/rand", "os", "io", "net", "log", "millrace"},
		allow: []string{
			"millrace/pipeline/agg", "millrace/pipeline/event", "millrace/pipeline/report", "millrace/pipeline/source", "millrace/pipeline/spec",
			"millrace/pipeline/page", "millrace/pipeline/store", "millrace/pipeline/window",
		},
	},
	{
		name: "the account of commits in flight waits for nobody: no context, no lock, no I/O",
		dirs: []string{"pipeline/lane/inflight"},
		deny: []string{"context", "sync", "math/rand", "os", "io", "net", "log", "millrace"},
		allow: []string{
			"millrace/pipeline/journal", "millrace/pipeline/lane/deliver", "millrace/pipeline/lane/fold", "millrace/pipeline/source",
			"millrace/pipeline/store",
		},
	},
	{
		name: "the lane calls its committer and is never called back",
		dirs: []string{"pipeline/lane/deliver"},
		deny: []string{"millrace/pipeline/lane", "millrace/pipeline/engine"}, allow: []string{"millrace/pipeline/lane/fold"},
	},
	{
		name: "everybody imports the reports; they import the standard library only",
		dirs: []string{"pipeline/report"}, deny: []string{""}, allow: []string{standardLibrary},
	},
	{
		name: "everybody imports the contract; it imports the spec and the reports only",
		dirs: []string{"internal/contract"}, deny: []string{"millrace"}, allow: []string{"millrace/pipeline/spec", "millrace/pipeline/report"},
	},
	{
		name: "workflows act through activities",
		dirs: []string{"workflows"},
		deny: []string{
			"millrace/pipeline", "millrace/internal", "millrace/worker", "millrace/starter", "go.temporal.io/sdk/client",
		},
		allow: []string{"millrace/pipeline/spec", "millrace/pipeline/report", "millrace/internal/contract"},
	},
	{
		name:  "activities reach the pipeline through small interfaces they declare",
		dirs:  []string{"activities"},
		deny:  []string{"millrace/pipeline", "millrace/internal", "millrace/workflows", "millrace/worker", "millrace/starter"},
		allow: []string{"millrace/pipeline/spec", "millrace/pipeline/report", "millrace/internal/contract"},
	},
	{
		name: "only pipeline/source, publish, engine and the command line talk to Kafka", dirs: []string{""},
		except: []string{"pipeline/source", "pipeline/publish", "pipeline/engine", "internal/cli", "tests"},
		deny:   []string{"github.com/IBM/sarama"},
	},
	{
		name: "only pipeline/store and the command line talk to Redis", dirs: []string{""},
		except: []string{"pipeline/store", "internal/cli", "tests"},
		deny:   []string{"github.com/redis/go-redis"},
	},
	{
		name: "the closer decides what its slots publish and is never called back",
		dirs: []string{"pipeline/publish"},
		deny: []string{"millrace/pipeline/result", "millrace/pipeline/survey", "millrace/pipeline/merge"},
	},
	{
		name: "only internal/dev runs embedded servers", dirs: []string{""},
		except: []string{"internal/dev", "pipeline/store/storetest", "tests"},
		deny:   []string{"github.com/alicebob/miniredis", "github.com/twmb/franz-go/pkg/kfake"},
	},
	{
		name: "the oracle shares no code with what it judges",
		dirs: []string{"tests/oracle"}, deny: []string{"millrace"}, allow: []string{"millrace/tests/oracle"}, tests: true,
	},
}

// broken names the rules that a file in dir breaks by importing pkg.
func broken(dir string, test bool, pkg string) []string {
	var names []string
	for _, r := range rules {
		if test && !r.tests || !under(dir, r.dirs) || under(dir, r.except) {
			continue
		}
		if under(pkg, r.deny) && !under(pkg, r.allow) {
			names = append(names, r.name)
		}
	}
	return names
}

// under reports whether p is at or below one of the parents.
func under(p string, parents []string) bool {
	for _, parent := range parents {
		if parent == standardLibrary && isStandard(p) || parent == "" || p == parent || strings.HasPrefix(p, parent+"/") {
			return true
		}
	}
	return false
}

// isStandard reports whether an import path is one of the standard library: only there the first element has no dot, but for this
// module's own packages.
func isStandard(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return first != "millrace" && !strings.Contains(first, ".")
}

// isModule reports whether the directory holds a module of its own, such as tools or bench/peers/go: the rules are this module's.
func isModule(root fs.FS, directory string) bool {
	_, err := fs.Stat(root, path.Join(directory, "go.mod"))
	return err == nil
}

func TestImportsFlowOneWay(t *testing.T) {
	root := os.DirFS("../..")
	var files int
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && (strings.HasPrefix(entry.Name(), ".") || name == "bin" || isModule(root, name)) {
			return fs.SkipDir
		}
		if entry.IsDir() || path.Ext(name) != ".go" {
			return nil
		}
		files++
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			pkg, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			for _, rule := range broken(path.Dir(name), strings.HasSuffix(name, "_test.go"), pkg) {
				t.Errorf("%s imports %s: %s", name, pkg, rule)
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Positive(t, files)
}

func TestRulesCatchWhatTheyForbid(t *testing.T) {
	for _, c := range []struct {
		dir, pkg string
		test     bool
		want     int
	}{
		{dir: "pipeline/lane", pkg: "go.temporal.io/sdk/client", want: 1},
		{dir: "pipeline/lane", pkg: "go.temporal.io/sdk/client", test: true, want: 0},
		{dir: "pipeline/lane", pkg: "millrace/pipeline/store", want: 0},
		{dir: "pipeline/lane", pkg: "github.com/redis/go-redis/v9", want: 1},
		{dir: "pipeline/store", pkg: "github.com/redis/go-redis/v9", want: 0},
		{dir: "pipeline/lane/fold", pkg: "time", want: 1},
		{dir: "pipeline/lane/fold", pkg: "time", test: true, want: 0},
		{dir: "pipeline/lane/fold", pkg: "sync/atomic", want: 1},
		{dir: "pipeline/lane/fold", pkg: "millrace/pipeline/journal", want: 1},
		{dir: "pipeline/lane/fold", pkg: "millrace/pipeline/store", want: 0},
		{dir: "pipeline/lane/fold", pkg: "strings", want: 0},
		{dir: "pipeline/lane/inflight", pkg: "context", want: 1},
		{dir: "pipeline/lane/inflight", pkg: "time", want: 0},
		{dir: "pipeline/lane/inflight", pkg: "millrace/pipeline/lane/deliver", want: 0},
		{dir: "pipeline/lane/deliver", pkg: "millrace/pipeline/lane", want: 1},
		{dir: "pipeline/lane/deliver", pkg: "millrace/pipeline/lane/fold", want: 0},
		{dir: "internal/contract", pkg: "millrace/pipeline/spec", want: 0},
		{dir: "internal/contract", pkg: "millrace/pipeline/store", want: 1},
		{dir: "internal/contract", pkg: "millrace/pipeline/report", want: 0},
		{dir: "pipeline/report", pkg: "time", want: 0},
		{dir: "pipeline/report", pkg: "encoding/json", want: 0},
		{dir: "pipeline/report", pkg: "millrace/pipeline/store", want: 1},
		{dir: "pipeline/report", pkg: "golang.org/x/time/rate", want: 1},
		{dir: "pipeline/report", pkg: "github.com/stretchr/testify/require", test: true, want: 0},
		{dir: "workflows", pkg: "millrace/pipeline/report", want: 0},
		{dir: "activities", pkg: "millrace/pipeline/engine", want: 1},
		{dir: "workflows", pkg: "millrace/activities", want: 0},
		{dir: "workflows", pkg: "millrace/internal/app", want: 1},
		{dir: "activities", pkg: "millrace/workflows", want: 1},
		{dir: "tests/oracle", pkg: "millrace/pipeline/agg", test: true, want: 1},
		{dir: "tests/oracle/cmd/oracle", pkg: "millrace/tests/oracle", want: 0},
		{dir: "internal/app", pkg: "millrace/workflows", want: 0},
		{dir: "internal/app", pkg: "github.com/alicebob/miniredis/v2", want: 1},
	} {
		require.Len(t, broken(c.dir, c.test, c.pkg), c.want, "%s imports %s", c.dir, c.pkg)
	}
}

// still are packages without a goroutine and without a clock: who calls them says what time it is.
var still = []string{"pipeline/lane/fold", "pipeline/lane/inflight"}

// clock are the names of package time that read a clock or wait for one.
var clock = []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}

// restless lists what of a file starts a goroutine, uses a channel or reads a clock.
func restless(fset *token.FileSet, file *ast.File) (found []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
			found = append(found, fset.Position(n.Pos()).String()+": a goroutine or a channel")
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clock, n.Sel.Name) {
				found = append(found, fset.Position(n.Pos()).String()+": time."+n.Sel.Name)
			}
		}
		return true
	})
	return found
}

func TestStillPackages(t *testing.T) {
	for _, dir := range still {
		names, err := fs.Glob(os.DirFS("../.."), dir+"/*.go")
		require.NoError(t, err)
		require.NotEmpty(t, names)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, "../../"+name, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			require.Empty(t, restless(fset, file))
		}
	}
	fset := token.NewFileSet()
	const bad = "package p; func f(c chan int) { go f(c); c <- int(time.Now().Unix()) }"
	file, err := parser.ParseFile(fset, "bad.go", bad, parser.SkipObjectResolution)
	require.NoError(t, err)
	require.Len(t, restless(fset, file), 4)
}
