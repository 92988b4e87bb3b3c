package connect

import (
	"time"

	"millrace/internal/settings"
)

// workerTable is the settings that only a worker reads.
func (o *Options) workerTable() []settings.Setting {
	w := &o.Worker
	b := &w.Breaker
	const day = 24 * time.Hour
	rows := []settings.Setting{
		{Name: "worker.name", Env: "MILLRACE_WORKER_NAME", Flag: "name", Value: settings.Text(&w.Name, "a name", nil),
			Help: "name of this worker for people", Default: "host name and process id"},
		{Name: "worker.reports_limit", Env: "MILLRACE_REPORTS_LIMIT", Flag: "reports-limit", Value: settings.Bytes(&w.ReportsLimit),
			Help: "bytes that reports.jsonl in the WAL directory may take; beyond it the oldest reports of recoveries " +
				"that wait for Temporal are dropped", Default: "64MiB"},
		{Name: "worker.state_format", Env: "MILLRACE_STATE_FORMAT", Flag: "state-format",
			Value: settings.Choice(&w.StateFormat, false, StateAuto, StateFields, StatePages),
			Help: "when lanes turn from entries in fields to state pages, which older releases cannot read: auto as soon as every " +
				"worker of the fleet reads pages, fields not at all, pages at once; a lane never turns back"},
		{Name: "worker.merge_cache", Env: "MILLRACE_MERGE_CACHE", Flag: "merge-cache", Value: settings.BytesOrNone(&w.MergeCache),
			Help: "bytes of merged slices that are kept in memory for windows that overlap, so that a slice is read once and not " +
				"again for every window; 0: none"},
		{Name: "worker.no_workflow_cache", Flag: "no-workflow-cache", Value: settings.Bool(&w.NoWorkflowCache),
			Help: "replay every workflow task from its start; for tests"},
		{Name: "traces.batches", Env: "MILLRACE_TRACED_BATCHES", Flag: "traced-batches", Value: settings.ShareOrNone(&w.TracedBatches),
			Help: "share of batches that are followed to what is published, beside records that carry a traceparent header; " +
				"only where OTEL_EXPORTER_OTLP_ENDPOINT says that spans are exported"},
		{Name: "log.text", Env: "MILLRACE_LOG_TEXT", Flag: "log-text", Value: settings.Bool(&w.LogText), Help: "log lines of text instead of JSON"},
		{Name: "log.verbose", Env: "MILLRACE_LOG_VERBOSE", Flag: "verbose", Value: settings.Bool(&w.Verbose), Help: "log more"},

		{Name: "admin.address", Env: "MILLRACE_METRICS_ADDR", Flag: "metrics", Value: settings.Text(&w.Admin.Addr, "host:port, or a port for loopback", nil),
			Help: "host:port for /metrics, /health and /debug/pprof/; a bare port is loopback, 0.0.0.0:PORT every interface"},
		{Name: "admin.tls.cert", Env: "MILLRACE_ADMIN_CERT", Flag: "admin-cert", Value: settings.Path(&w.Admin.CertFile, wantPEM),
			Help: "PEM file of the certificate that this address shows"},
		{Name: "admin.tls.key", Env: "MILLRACE_ADMIN_KEY", Flag: "admin-key", Value: settings.Path(&w.Admin.KeyFile, wantPEM),
			Help: "PEM file of that certificate's key"},
		{Name: "admin.tls.client_ca", Env: "MILLRACE_ADMIN_CLIENT_CA", Flag: "admin-client-ca", Value: settings.Path(&w.Admin.ClientCAFile, wantPEM),
			Help: "PEM file of the authorities whose clients are let in"},
		{Name: "admin.token_file", Env: "MILLRACE_ADMIN_TOKEN_FILE", Flag: "admin-token-file",
			Value: settings.Path(&w.Admin.TokenFile, wantSecret), Help: "file of the token that whoever asks has to send"},

		{Name: "wal.dir", Env: "MILLRACE_WAL_DIR", Flag: "wal", Value: settings.Path(&w.WAL.Dir, "a directory"),
			Help: "directory on a local disk for commits that Redis cannot take, of this worker alone"},
		{Name: "wal.soft_limit", Env: "MILLRACE_WAL_SOFT_LIMIT", Flag: "wal-soft-limit", Value: settings.Bytes(&w.WAL.SoftLimit),
			Help: "size of the WAL from which on intake is throttled", Default: "3/4 of the hard limit"},
		{Name: "wal.hard_limit", Env: "MILLRACE_WAL_HARD_LIMIT", Flag: "wal-hard-limit", Value: settings.Bytes(&w.WAL.HardLimit),
			Help: "size of the WAL at which intake is paused", Default: "4GiB"},
		{Name: "wal.aside_limit", Env: "MILLRACE_WAL_ASIDE_LIMIT", Flag: "wal-aside-limit", Value: settings.Bytes(&w.WAL.AsideLimit),
			Help: "bytes of copies of unreadable parts of the WAL to keep in its folder corrupt; the oldest go first, " +
				"those of records nobody has decided about never", Default: "1GiB"},
		{Name: "wal.aside_age", Env: "MILLRACE_WAL_ASIDE_AGE", Flag: "wal-aside-age", Value: settings.Span(&w.WAL.AsideAge, time.Second, 0),
			Help: "how long to keep such copies at most", Default: "30d"},

		// docs/degradation.md says what each of these means.
		{Name: "breaker.open", Flag: "breaker-open", Value: settings.Span(&b.OpenFor, time.Millisecond, day),
			Help: "how long Redis is left alone once it counts as away, before it is probed; with a WAL only"},
		{Name: "breaker.probes", Flag: "breaker-probes", Value: settings.Int(&b.Probes, 1, 100),
			Help: "probes in a row that must succeed then"},
		{Name: "breaker.assignment", Flag: "breaker-assignment", Value: settings.Span(&b.AssignmentTime, time.Millisecond, day),
			Help: "Redis counts as away when a partition's assignment takes longer"},
		{Name: "breaker.ping_timeout", Flag: "breaker-ping-timeout", Value: settings.Span(&b.PingTimeout, time.Millisecond, time.Second),
			Help: "a probe of Redis that takes longer has failed"},
		{Name: "breaker.ping_rounds", Flag: "breaker-ping-rounds", Value: settings.Int(&b.PingRounds, 1, 1000),
			Help: "rounds of probes of Redis in a row that must fail, one a second"},
		{Name: "breaker.ping_failing", Flag: "breaker-ping-failing", Value: settings.Share(&b.PingFailing),
			Help: "share of failed probes that makes a round fail"},
		{Name: "breaker.throughput_window", Flag: "breaker-throughput-window", Value: settings.Span(&b.ThroughputWindow, time.Millisecond, day),
			Help: "throughput is compared over windows of this length"},
		{Name: "breaker.throughput_drop", Flag: "breaker-throughput-drop", Value: settings.Share(&b.ThroughputDrop),
			Help: "share by which it must fall, while lag grows"},
		{Name: "breaker.error_window", Flag: "breaker-error-window", Value: settings.Span(&b.ErrorWindow, 10*time.Millisecond, day),
			Help: "failed commits are counted over a window of this length"},
		{Name: "breaker.error_min", Flag: "breaker-error-min", Value: settings.Int(&b.ErrorMin, 1, 1<<30),
			Help: "fewer commits than this within it say nothing"},
		{Name: "breaker.error_rate", Flag: "breaker-error-rate", Value: settings.Share(&b.ErrorRate), Help: "share of them that must fail"},
		{Name: "storm.changes", Flag: "storm-changes", Value: settings.Int(&w.Storm.Changes, 1, 1<<30),
			Help: "assignment changes within the span that count as a rebalance storm ..."},
		{Name: "storm.span", Flag: "storm-span", Value: settings.Span(&w.Storm.Span, time.Second, day),
			Help: "... when they come within this span: the recovery of new lanes is then held back for a moment"},
	}
	for i := range rows {
		rows[i].Worker = true
	}
	return rows
}
