package model

import (
	"fmt"

	"millrace/pipeline/store"
)

// Rule names a rule of the protocol that can be switched off. Wrappers around the real code do it.
type Rule string

// Rules of the lanes.
const (
	tokens          Rule = "owner is a random token"
	fencing         Rule = "a fenced call changes nothing"
	cursors         Rule = "calls are chained by a cursor"
	noReseed        Rule = "lost writes are written again from memory"
	stamps          Rule = "a restored entry keeps its stamp"
	stampsUp        Rule = "a written stamp never goes down"
	entriesFirst    Rule = "entries before offset"
	touched         Rule = "a commit holds all entries touched"
	sidesAfter      Rule = "side records wait for the previous meta"
	idleAsks        Rule = "a lane asks the broker before it is idle"
	movesEnd        Rule = "what could move the watermark ends idleness"
	sealAtEnd       Rule = "a seal is adopted only at the log's end"
	sealCommitted   Rule = "an adopted seal is committed"
	dropAsked       Rule = "slices are dropped only when asked"
	dropSealed      Rule = "a drop waits for the committed seal"
	trustHint       Rule = "a lost state is an incident"
	stealBack       Rule = "a fenced lane asks the coordinator"
	sidesBeforeMeta Rule = "side records before the meta"
	basisThere      Rule = "a rebuild begins with what was decided up to there"
	notAgain        Rule = "a rebuild adopts nothing new among what was decided"
	wantWhole       Rule = "a lane goes on only from a whole state"
	countSlices     Rule = "a commit wants all slices registered"
	keepsDropped    Rule = "a lane keeps how much it dropped"
	provesEntries   Rule = "entries are compared when all of them was read again"
	keptBehind      Rule = "seals and jumps are kept while the group's offset may lie before them"
	acceptedAgain   Rule = "an accepted jump is accepted when it is read again"
	streakKept      Rule = "the streak of refused jumps is committed"
	freshKeys       Rule = "the first entries of a slice replace what stands there"
)

// Rules of pages.
const (
	pagesDone        Rule = "pages of a commit that has not ended are content for nobody"
	beyondGo         Rule = "pages of a commit that never ended go before the next one"
	deletedLater     Rule = "what a commit replaces is deleted by a later one"
	forgottenAll     Rule = "everything is written again where the meta or slices are gone"
	ownBefore        Rule = "a lane that another one owned in between is restored"
	leftRegistered   Rule = "pages under a slice that is registered anew go"
	leftTurning      Rule = "pages under the slices of a lane that turns to pages go"
	turnsInOrder     Rule = "a lane turns to pages when it reads nothing again"
	dropCounts       Rule = "a call that drops slices moves what was dropped"
	rowsSeq          Rule = "rows know the commit that holds them"
	oneIndex         Rule = "a lane's share of a revision comes from one index"
	indexCovers      Rule = "a revision covers a lane up to the offset of its index"
	runsReplaceLater Rule = "a whole run replaces nothing before Redis has it"
	pendingGone      Rule = "a lane that writes its state again forgets what it was to delete"
	newestWins       Rule = "of each key the newest page counts"
)

// Rules of the journal.
const (
	oneQueue   Rule = "no commit overtakes the journal"
	ownJournal Rule = "a journal goes on only with its own token"
	owedSides  Rule = "a lane that writes its state again owes the journal's side records"
)

// Rules of the closer.
const (
	endsFresh     Rule = "an end that was asked for long ago proves nothing"
	closerAsks    Rule = "the closer asks the broker about idle lanes"
	metaFirst     Rule = "meta is read before entries"
	coverFirst    Rule = "covered is the first meta's offset"
	rereadGuarded Rule = "pages carry a guard and meta is read again"
	reread        Rule = "meta is read again"
	guards        Rule = "pages carry a guard"
	behind        Rule = "no revision while a lane is behind"
	exactStamps   Rule = "an exact row wants all stamps covered"
	ledgerAfter   Rule = "the ledger is read after InitProducerId"
	fixedID       Rule = "a slot's transactional id is fixed"
	ownAttempt    Rule = "Redis shows the content of the attempt that was committed"
	upwards       Rule = "the view flips only upwards"
	generations   Rule = "slices have generations"
	finals        Rule = "final windows are never closed again"
	oneTxn        Rule = "results and ledger row in one transaction"
	wholeLanes    Rule = "no revision while slices of a lane are missing"
	asksAgain     Rule = "the closer asks for entries that are missing"
	floorsTrue    Rule = "a floor lies where every lane has passed"
	floorsBind    Rule = "nothing at or below the floor is closed"
	floorsEdition Rule = "a floor says nothing about another edition"
)

func (w *World) is(r Rule) bool { return w.off == r }

// mutated reports whether any rule is off.
func (w *World) mutated() bool { return w.off != "" }

// nextToken makes the token that follows prev's.
func (w *World) nextToken(prev store.Token) store.Token {
	if w.is(tokens) {
		return store.Token(fmt.Sprintf("%d:%032d", prev.Epoch()+1, 0))
	}
	return store.NextToken(prev)
}
