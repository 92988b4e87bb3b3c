package dashboards

// Dashboard is one page of panels.
type Dashboard struct {
	Name      string // of its file, and at the end of its uid
	Title     string
	About     string // what it is for
	Variables []Variable
	Panels    []Panel
}

// Variable is a choice at the top of a dashboard; nothing chosen means all.
type Variable struct {
	Name   string // "$NAME" in queries
	Label  string
	Metric string // whose label of that name has the choices
}

// Panel is one picture. Its title is a subject or a question; its text says what to do about what it shows.
type Panel struct {
	Title   string
	About   string
	Unit    Unit
	Kind    Kind
	Queries []Query
}

// Query is what a panel asks Prometheus, and how it names what comes back.
type Query struct {
	Expr   string
	Legend string // {{label}} stands for the value of a label
}

// Kind is how a panel shows the answers.
type Kind string

// Kinds, by Grafana's names.
const (
	Lines  Kind = "timeseries"
	Values Kind = "stat"           // the latest value of each series, as a number
	States Kind = "state-timeline" // a bar for each series, where it is above 0
)

// Unit is what values are counted in, by Grafana's names.
type Unit string

// Units.
const (
	Count     Unit = "short"
	PerSecond Unit = "cps"
	Seconds   Unit = "s"
	Bytes     Unit = "bytes"
	Share     Unit = "percentunit"
	Yes       Unit = "bool_yes_no"
)

// All is every dashboard, in the order in which one looks at them.
func All() []Dashboard {
	return []Dashboard{overview, pipeline, dependencies, controlPlane, process}
}

// Choices at the top of dashboards.
var (
	ofPipeline = Variable{"pipeline", "Pipeline", "millrace_replica_memory_bytes"}
	ofInstance = Variable{"instance", "Worker", "millrace_build_info"}
)

// lines is a panel of lines over time.
func lines(title string, unit Unit, about string, queries ...Query) Panel {
	return Panel{Title: title, About: about, Unit: unit, Kind: Lines, Queries: queries}
}

// none is a series for a panel that would be empty when all is well, with a label that the panel names its lines by.
func none(label string) string {
	return ` or label_replace(vector(0), "` + label + `", "none", "", "")`
}

// states is a panel of bars.
func states(title, about string, queries ...Query) Panel {
	return Panel{Title: title, About: about, Unit: Count, Kind: States, Queries: queries}
}

// values is a panel of numbers.
func values(title string, unit Unit, about string, queries ...Query) Panel {
	return Panel{Title: title, About: about, Unit: unit, Kind: Values, Queries: queries}
}
