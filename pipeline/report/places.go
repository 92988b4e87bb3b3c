package report

// Places where the content of a published window stands, as a recount looks at them and as a ledger row names those that it mends.
const (
	PlaceLedger  = "ledger"  // the window's row
	PlaceView    = "view"    // the contents in Redis
	PlaceResults = "results" // the rows in the result topic
	PlaceStates  = "states"  // the states topic, as far as a roll-up still needs them
)
