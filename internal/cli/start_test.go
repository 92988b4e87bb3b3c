package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// startsAgain starts the flights that were stopped: with another spec, in place of what is there, and behind a record.
func startsAgain(t *testing.T, run terminalRun, dir string) {
	text, err := os.ReadFile(flightsSpec)
	require.NoError(t, err)
	changed := filepath.Join(dir, "changed.yaml")
	require.NoError(t, os.WriteFile(changed, []byte(strings.Replace(string(text), "{func: avg,", "{func: max,", 1)), 0o600))
	nowhere := filepath.Join(dir, "nowhere.yaml")
	require.NoError(t, os.WriteFile(nowhere, []byte(strings.NewReplacer("name: flights", "name: nowhere", "[flights]", "[flihgts]").
		Replace(string(text))), 0o600))
	begun := func(args ...string) contract.Running {
		t.Helper()
		code, out, errs := run(append(args, "--json")...)
		require.Equal(t, ExitOK, code, errs)
		var s started
		require.NoError(t, json.Unmarshal([]byte(out), &s))
		require.Len(t, s.Running.Lanes, defaultPartitions)
		return *s.Running
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"start", nowhere}, ExitFailed, "pipeline nowhere does not run, its workflow is failed: source topic flihgts: unknown topic"},
		{[]string{"start", changed}, ExitFailed, "4 of 4 lanes of pipeline flights hold the state of another spec"},
		{[]string{"start", flightsSpec, "--from", "latest"}, ExitFailed,
			"have a state and go on where they stopped, so they cannot begin from latest"},
		{[]string{"start", changed, "--discard-state", "--from", "latest"}, ExitUsage, "there is no terminal to ask on"},
		{[]string{"start", changed, "--discard-state", "--from", "flights/0=1", "--yes"}, ExitFailed, "from names no offset for flights/1"},
		{[]string{"watermark", "reset", "flights", "--from", "latest"}, ExitUsage, "there is no terminal to ask on"},
	} {
		code, _, errs := run(c.args...)
		require.Equal(t, c.code, code, errs)
		require.Contains(t, errs, c.says)
	}
	for _, lane := range begun("start", changed, "--discard-state", "--from", "latest", "--yes").Begun {
		require.EqualValues(t, 1250, lane.Offset)
	}
	code, _, errs := run("watermark", "reset", "flights", "--from", "earliest", "--dry-run")
	require.Equal(t, ExitFailed, code)
	require.Contains(t, errs, "pipeline flights is running already: stop it first")
	code, _, errs = run("stop", "flights")
	require.Equal(t, ExitOK, code, errs)

	code, out, errs := run("watermark", "reset", "flights", "--from", "earliest", "--dry-run", "--json")
	require.Equal(t, ExitOK, code, errs)
	var view overtakenView
	require.NoError(t, json.Unmarshal([]byte(out), &view))
	require.EqualValues(t, 5000, view.Records)
	require.Empty(t, view.Windows, "nothing is final in the edition that has begun")
	begun("watermark", "reset", "flights", "--from", "flights/0=1,flights/1=2,flights/2=3,flights/3=4", "--yes")
	code, _, errs = run("stop", "flights", "--drain")
	require.Equal(t, ExitOK, code, errs)
	code, out, errs = run("verify", "flights", "--json")
	require.Equal(t, ExitOK, code, out+errs)
	require.Contains(t, out, `"read":4990`)
}

func TestBeginFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"start " + flightsSpec + " --discard-state --yes", ExitUsage, "--discard-state needs --from"},
		{"start " + flightsSpec + " --from yesterday", ExitUsage, `--from: "yesterday" is no place to begin: want "earliest", "latest", a time`},
		{"start " + flightsSpec + " --from flights=3", ExitUsage, `--from: "flights=3" is no lane with its offset: want topic/partition=offset`},
		{"start " + flightsSpec + " --from flights/0=3,flights/0=4", ExitUsage, "--from: lane flights/0 is named twice"},
		{"start " + flightsSpec + " --wait 2h", ExitUsage, "--wait is 2h; want whole seconds, 1s to 1h"},
		{"start " + flightsSpec + " --from latest", ExitUnreachable, "Temporal at 127.0.0.1:1 does not answer"},
		{"watermark reset flights", ExitUsage, "--from is missing"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, _, errs := millrace(t, strings.Fields(c.args)...)
			require.Equal(t, c.code, code, errs)
			require.Contains(t, errs, c.says)
		})
	}
	code, out, errs := millrace(t, "spec", "json", flightsSpec, "--from", "flights/1=7,flights/0=3", "--discard-state")
	require.Equal(t, ExitOK, code, errs)
	require.Contains(t, out, `,"from":{"flights":{"0":3,"1":7}},"discard_state":true}`)
}

// Lanes that wait for a decision are a failure of the start; those that are on their way are only missing.
func TestAStartSaysWhatIsUnread(t *testing.T) {
	r := &contract.Running{Lanes: make([]report.LaneReceipt, 2)}
	require.NoError(t, unread("orders", r))
	r.Missing = []report.LaneMissing{{Topic: "in", Partition: 2, Reason: "no worker has acquired it"}}
	err := unread("orders", r)
	require.Equal(t, ExitIncomplete, Code(err))
	require.EqualError(t, err, "not read yet: 1 lane of pipeline orders (in/2), see `millrace status orders`")
	r.Missing = append(r.Missing, report.LaneMissing{Topic: "in", Partition: 3, Reason: "parked: state-lost", Asks: true})
	err = unread("orders", r)
	require.Equal(t, ExitFailed, Code(err))
	require.EqualError(t, err, "parked until somebody decides: 1 of 4 lanes of pipeline orders (in/3), see `millrace recover ls orders`")
	var out bytes.Buffer
	r.Missing = append(r.Missing, report.LaneMissing{Topic: "in", Partition: 4, Reason: "parked: state-lost", Asks: true})
	require.NoError(t, drawStarted(&out, started{Pipeline: "orders", Running: r}))
	require.Contains(t, out.String(), "  MISSING in/2: no worker has acquired it\n  MISSING in/3, in/4: parked: state-lost\n")
}

// The help explains every choice that a lane can offer.
func TestEveryChoiceIsExplained(t *testing.T) {
	help := choiceHelp()
	for _, choice := range []string{
		report.ChoiceWait, report.ChoiceSkip, report.ChoiceRebuild, report.ChoiceRestart, report.ChoiceRetry, report.ChoiceAccept,
		report.ChoiceRefuse,
	} {
		require.Regexp(t, `(?m)^  `+choice+` +\S`, help)
	}
}
