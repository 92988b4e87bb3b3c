package model

import (
	"cmp"
	"flag"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var (
	seedFlag    = flag.Uint64("model.seed", 0, "run this one seed and print every step")
	seedsFlag   = flag.Int("model.seeds", 0, "seeds to run (default $MILLRACE_MODEL_SEEDS, else a few hundred)")
	mutantsFlag = flag.Int("model.mutants", 0, "bound on the seeds tried without a rule (default 1000)")
	ruleFlag    = flag.String("model.rule", "", "with -model.seed the rule to switch off, else the only one that TestMutants tries")
	skyFlag     = flag.String("model.sky", "", "with -model.seed and -model.seeds: the climate: "+
		"silence, storm, crowd, crashes, outage, loss, refused or jumps")
	workersFlag = flag.Int("model.workers", 2, "seeds to run at a time")
)

// defaultSeeds is how many seeds run when nobody says otherwise.
var defaultSeeds = 400

// underRace says that the race detector is on, and rules are not turned off.
var underRace bool

// skipUnderRace skips a test that turns rules off.
func skipUnderRace(t *testing.T) {
	t.Helper()
	if underRace {
		t.Skip("rules are turned off without the race detector")
	}
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func newLab(t testing.TB) *Lab {
	lab, err := NewLab()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, lab.Close()) })
	return lab
}

// each runs fn for the n seeds behind after until it answers false, on as many labs as -model.workers says.
func each(t testing.TB, after, n int, fn func(lab *Lab, seed uint64) bool) {
	var next atomic.Int64
	next.Store(int64(after))
	last := int64(after + n)
	var group sync.WaitGroup
	for range *workersFlag {
		lab, err := NewLab()
		require.NoError(t, err)
		group.Go(func() {
			defer func() { assert.NoError(t, lab.Close()) }() // not at the test's end: a test may call each a hundred times
			for seed := next.Add(1); seed <= last; seed = next.Add(1) {
				if !fn(lab, uint64(seed)) {
					next.Store(last)
				}
			}
		})
	}
	group.Wait()
}

// The protocol holds whatever happens. -model.seed prints one run step by step.
func TestProtocol(t *testing.T) {
	if *seedFlag > 0 {
		out := newLab(t).Run(Options{Seed: *seedFlag, Off: Rule(*ruleFlag), Sky: Climate(*skyFlag), Trace: os.Stdout})
		t.Logf("%+v", out)
		require.Empty(t, out.Wrong)
		return
	}
	env, _ := strconv.Atoi(os.Getenv("MILLRACE_MODEL_SEEDS"))
	explore(t, cmp.Or(*seedsFlag, env, defaultSeeds), Climate(*skyFlag), func(o *Outcome) bool {
		return *skyFlag != "" || min(o.Turned, o.Back) > 0
	})
}

// The protocol holds with journals: lanes put commits there whenever Redis is out of reach, processes die with their disk
// or leave it to the next one, and Redis forgets what was drained.
func TestJournal(t *testing.T) {
	if *seedFlag > 0 || *skyFlag != "" {
		t.Skip("one climate is asked for")
	}
	env, _ := strconv.Atoi(os.Getenv("MILLRACE_MODEL_SEEDS"))
	explore(t, cmp.Or(*seedsFlag, env, defaultSeeds)/2, Outage, func(o *Outcome) bool {
		return min(o.Spilled, o.Resumed, o.Superseded, o.Settled) > 0
	})
}

// Whatever is deleted of a lane's state in Redis is written again or read again, and no window is published without it.
func TestLoss(t *testing.T) {
	if *seedFlag > 0 || *skyFlag != "" {
		t.Skip("one climate is asked for")
	}
	env, _ := strconv.Atoi(os.Getenv("MILLRACE_MODEL_SEEDS"))
	explore(t, cmp.Or(*seedsFlag, env, defaultSeeds)/2, Loss, func(o *Outcome) bool {
		return min(o.Lost, o.Spoilt, o.Replaced, o.Found, o.Reseeds, o.Rebuilds) > 0
	})
}

// A partition that gets nothing but refused records does not hold windows open, and its lane is not left out when
// something waits that is not refused.
func TestRefused(t *testing.T) {
	if *seedFlag > 0 || *skyFlag != "" {
		t.Skip("one climate is asked for")
	}
	env, _ := strconv.Atoi(os.Getenv("MILLRACE_MODEL_SEEDS"))
	explore(t, cmp.Or(*seedsFlag, env, defaultSeeds)/2, Refused, func(o *Outcome) bool { return min(o.Steady, o.Seals) > 0 })
}

// Too many jumps in a row make a lane ask, and what is accepted moves the watermark, also when it is read again.
func TestJumps(t *testing.T) {
	if *seedFlag > 0 || *skyFlag != "" {
		t.Skip("one climate is asked for")
	}
	env, _ := strconv.Atoi(os.Getenv("MILLRACE_MODEL_SEEDS"))
	explore(t, cmp.Or(*seedsFlag, env, defaultSeeds)/4, Jumps, func(o *Outcome) bool {
		return min(o.Jumped, o.Answers, o.Rebuilds) > 0
	})
}

// explore runs seeds 1 to n, and more of them until what they brought about is enough.
func explore(t *testing.T, n int, sky Climate, enough func(*Outcome) bool) {
	var mu sync.Mutex
	var sum Outcome
	seeds, wrong := 0, 0
	try := func(lab *Lab, seed uint64) bool {
		out := lab.Run(Options{Seed: seed, Sky: sky})
		mu.Lock()
		defer mu.Unlock()
		seeds++
		sum.add(out)
		if out.Wrong != "" {
			wrong++
			t.Errorf("seed %d, step %d: %s", seed, out.Steps, out.Wrong)
		}
		return wrong < 10
	}
	for after := 0; wrong < 10 && (after == 0 || !enough(&sum) && after < 20*n); after += n {
		each(t, after, n, try)
	}
	t.Logf("seeds %d, steps %d, faults %d, wrong %d (re-seeds %d, rebuilds %d, seals %d, "+
		"revisions %d, of which %d are differences, contents shown %d, idle lanes left out %d, "+
		"%d of them under refused records, jumps accepted %d, answers about them %d, "+
		"final windows %d, late events %d, windows not judged %d; "+
		"commits journalled %d, superseded %d, applied by a later owner %d, settled %d; "+
		"keys deleted %d, entries spoilt %d, acquisitions that found it %d, states replaced %d; "+
		"floors written %d, rows given up %d, views expired %d; turns to pages %d, forgotten %d)",
		seeds, sum.Steps, sum.Faults, wrong, sum.Reseeds, sum.Rebuilds, sum.Seals, sum.Revisions,
		sum.Differing, sum.Shown, sum.Idle, sum.Steady,
		sum.Jumped, sum.Answers, sum.Finals, sum.Late, sum.Exempt,
		sum.Spilled, sum.Superseded, sum.Resumed, sum.Settled, sum.Lost, sum.Spoilt, sum.Found, sum.Replaced, sum.Floors, sum.Rows, sum.Expired,
		sum.Turned, sum.Back)
	require.True(t, enough(&sum), "some of it never came about")
}

func (o *Outcome) add(p Outcome) {
	o.Steps += p.Steps
	o.Faults += p.Faults
	o.Revisions += p.Revisions
	o.Differing += p.Differing
	o.Shown += p.Shown
	o.Finals += p.Finals
	o.Late += p.Late
	o.Reseeds += p.Reseeds
	o.Rebuilds += p.Rebuilds
	o.Seals += p.Seals
	o.Idle += p.Idle
	o.Steady += p.Steady
	o.Jumped += p.Jumped
	o.Answers += p.Answers
	o.Exempt += p.Exempt
	o.Spilled += p.Spilled
	o.Superseded += p.Superseded
	o.Resumed += p.Resumed
	o.Settled += p.Settled
	o.Expired += p.Expired
	o.Floors += p.Floors
	o.Rows += p.Rows
	o.Lost += p.Lost
	o.Found += p.Found
	o.Spoilt += p.Spoilt
	o.Replaced += p.Replaced
	o.Turned += p.Turned
	o.Back += p.Back
	o.Recounts += p.Recounts
	o.Compared += p.Compared
	o.Differ += p.Differ
	o.Refused += p.Refused
	o.Killed += p.Killed
	o.Corrected += p.Corrected
	o.Certified += p.Certified
	o.Overtaken += p.Overtaken
}

// The same seed gives the same run.
func TestDeterminism(t *testing.T) {
	lab := newLab(t)
	for seed := range uint64(20) {
		for _, sky := range []Climate{Mixed, Outage} {
			o := Options{Seed: seed + 1, Sky: sky}
			once, again := lab.Run(o), lab.Run(o)
			// What the log still holds after a crash depends on when its goroutine has written releases down; what a run does
			// with it does not.
			again.Spilled, again.Superseded = once.Spilled, once.Superseded
			require.Equal(t, once, again, "seed %d", seed+1)
		}
	}
}

// mutants are the rules that can be switched off, and in which climate that shows best.
var mutants = []struct {
	rule Rule
	sky  Climate
	from uint64 // where to begin: rules that only a rare run needs begin near one
}{
	{tokens, Storm, 215}, {fencing, Storm, 2}, {cursors, Storm, 1}, {noReseed, Storm, 1}, {stamps, Crashes, 1},
	{stampsUp, Crashes, 1}, {entriesFirst, Mixed, 1}, {sidesAfter, Silence, 260}, {idleAsks, Silence, 940},
	{sealAtEnd, Silence, 780}, {sealCommitted, Silence, 80}, {dropAsked, Mixed, 1}, {trustHint, Storm, 1},
	{basisThere, Mixed, 1},
	{stealBack, Crashes, 1}, {closerAsks, Refused, 1}, {endsFresh, Refused, 1}, {movesEnd, Refused, 1},
	{coverFirst, Mixed, 1}, {behind, Storm, 1},
	{ledgerAfter, Crowd, 1}, {fixedID, Crowd, 1}, {ownAttempt, Crowd, 1235}, {upwards, Crowd, 1},
	{generations, Mixed, 1}, {finals, Mixed, 1}, {oneTxn, Crowd, 1},
	{oneQueue, Outage, 1}, {ownJournal, Outage, 1}, {owedSides, Outage, 1},
	{wantWhole, Loss, 1}, {countSlices, Loss, 1}, {keepsDropped, Mixed, 1}, {provesEntries, Loss, 650},
	{acceptedAgain, Jumps, 1}, {streakKept, Jumps, 1}, {keptBehind, Loss, 555},
	{wholeLanes, Loss, 1}, {asksAgain, Loss, 1},
	{floorsTrue, Mixed, 1}, {floorsEdition, Mixed, 1},
	{pagesDone, Crashes, 1}, {beyondGo, Crashes, 1}, {deletedLater, Mixed, 1}, {forgottenAll, Loss, 1}, {ownBefore, Storm, 1260},
	{leftRegistered, Loss, 1}, {leftTurning, Loss, 1}, {turnsInOrder, Crashes, 1}, {dropCounts, Mixed, 1}, {rowsSeq, Storm, 1},
	{oneIndex, Crowd, 35}, {indexCovers, Crowd, 1}, {runsReplaceLater, Storm, 90}, {newestWins, Mixed, 1},
}

// mutantSeeds is within how many seeds a mutant must be found wrong.
const mutantSeeds = 1000

// redundant are rules whose work another rule does as well, here: the model does not find them wrong alone.
var redundant = []struct {
	rule Rule
	sky  Climate
	why  string
}{
	{touched, Crashes, "what Redis keeps is a prefix of a lane's calls, so an entry that is newer than its commit was written by an " +
		"earlier call that is kept too; it takes commits replayed from a journal to lose it"},
	{dropSealed, Silence, "a drop is asked only when every lane's committed seal has passed, and a lost seal takes the request, of the " +
		"same hash tag, along; what is dropped by mistake belongs to final windows"},
	{notAgain, Mixed, "what empties Redis takes the closer's requests along, and new ones wait for the lane that is being rebuilt"},
	{guards, Storm, "meta is read again at the end"},
	{reread, Storm, "every page carries a guard"},
	{freshKeys, Loss, "what stands there are entries of the same events: reading them again overwrites each, and until then their stamps " +
		"say that they are newer; but keys of slices that nobody registers again would stay for ever"},
	{rereadGuarded, Storm, "no stamp above the covered offset and as many events in the entries as were folded leave one possible " +
		"content; the guard makes a retry of what would be an incident"},
	{metaFirst, Crowd, "entries that are older than the meta hold fewer events than it says were folded, and what is missing is asked for " +
		"again"},
	{exactStamps, Crowd, "entries that are newer than the covered offset hold more events than were folded up to there"},
	{pendingGone, Storm, "a whole run that Redis has forgotten is due again when the state is written again, and replaces what it was to " +
		"replace; it takes two of which one has to wait for the other"},
	{floorsBind, Storm, "what a floor says every round also writes into the requests to the lanes, and a window that they may drop is " +
		"not closed again; the floor alone says so when Redis forgets in the middle of a round"},
}

// Every rule is needed: without it something goes wrong within a bounded number of seeds.
func TestMutants(t *testing.T) {
	skipUnderRace(t)
	for _, m := range mutants {
		if *ruleFlag != "" && *ruleFlag != string(m.rule) {
			continue
		}
		first, found := hunt(t, Options{Off: m.rule, Sky: m.sky}, m.from, cmp.Or(*mutantsFlag, mutantSeeds))
		if first == 0 {
			t.Errorf("%-48s %-8s not found wrong", m.rule, m.sky)
			continue
		}
		t.Logf("%-48s %-8s seed %3d, step %5d: %s", m.rule, m.sky, first, found.Steps, head(found.Wrong))
	}
}

func TestRedundantRules(t *testing.T) {
	skipUnderRace(t)
	for _, m := range redundant {
		if first, found := hunt(t, Options{Off: m.rule, Sky: m.sky}, 1, cmp.Or(*mutantsFlag, 5)); first > 0 {
			t.Logf("%-48s %-8s seed %3d, step %5d: %s", m.rule, m.sky, first, found.Steps, head(found.Wrong))
		} else {
			t.Logf("%-48s %-8s not found wrong alone: %s", m.rule, m.sky, m.why)
		}
	}
}

// hunt returns the lowest seed it found that goes wrong with these options, 0 for none among n.
func hunt(t *testing.T, o Options, from uint64, n int) (first uint64, found Outcome) {
	var mu sync.Mutex
	each(t, 0, n, func(lab *Lab, nth uint64) bool {
		o := o
		o.Seed = from + nth - 1
		seed, out := o.Seed, lab.Run(o)
		mu.Lock()
		defer mu.Unlock()
		if out.Wrong != "" && (first == 0 || seed < first) {
			first, found = seed, out
		}
		return first == 0
	})
	return first, found
}

func head(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line[:min(len(line), 140)]
}
