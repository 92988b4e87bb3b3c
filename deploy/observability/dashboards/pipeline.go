package dashboards

// risen asks by how much a counter has risen of late. A series that began meanwhile has risen from 0, which increase alone does not know.
func risen(by, counter, span string) string {
	of := counter + `{pipeline=~"$pipeline"}`
	return "sum by (" + by + ") ((" + of + " unless " + of + " offset " + span + ") or increase(" + of + "[" + span + "]))"
}

var pipeline = Dashboard{
	Name:      "pipeline",
	Title:     "Pipeline",
	About:     "Where in a pipeline is time lost, and what became of its records and windows?",
	Variables: []Variable{ofPipeline},
	Panels: []Panel{
		lines("What becomes of records?", PerSecond,
			"Records a second by outcome. late: allowed_lateness is too short or a producer is behind; invalid, ahead: see the refused records.",
			Query{`sum by (outcome) (rate(millrace_lane_records_total{pipeline=~"$pipeline"}[$__rate_interval])) > 0`, "{{outcome}}"}),
		lines("Which lane is behind?", Count,
			"Records that Redis does not have yet, by lane. One line above the others: a hot key, or a lane that is parked or blocked "+
				"(millrace status NAME TOPIC/PARTITION).",
			Query{`sum by (topic, partition) (millrace_lane_lag{pipeline=~"$pipeline"})`, "{{topic}}/{{partition}}"}),
		lines("Which lane holds the watermark?", Seconds,
			"Distance of each lane's watermark from the clock; the longest holds all windows open. Feed the partition, or set watermark.idle_timeout.",
			Query{`time() - max by (topic, partition) (millrace_lane_watermark_timestamp_seconds{pipeline=~"$pipeline"})`, "{{topic}}/{{partition}}"}),
		lines("In which state are the lanes?", Count,
			"Lanes by state. parked waits for a person: millrace recover ls NAME says what can be decided.",
			Query{`sum by (state) (millrace_lane_state{pipeline=~"$pipeline"})`, "{{state}}"}),
		lines("What do lanes work on, and wait for?", Share,
			"Share of the time of a lane's goroutines by part and stage, without waiting for records. A lane that decodes and folds all the time wants "+
				"more partitions; one in commit waits for Redis; a reader in lane waits for the lane. millrace status NAME --slow says it in words.",
			Query{`sum by (part, stage) (rate(millrace_lane_stage_seconds_total{pipeline=~"$pipeline",` +
				`stage!~"fetch|broker|idle|rest"}[$__rate_interval])) / on () group_left () count(millrace_lane_lag{pipeline=~"$pipeline"})`,
				"{{part}} {{stage}}"}),
		lines("What do closers work on?", Share,
			"Share of the closers' time by stage of their rounds, without rest. Near 100 % they are behind: fewer keys or windows, or a faster Redis, help.",
			Query{`sum by (stage) (rate(millrace_closing_stage_seconds_total{pipeline=~"$pipeline",stage!~"idle|rest"}[$__rate_interval]))`,
				"{{stage}}"}),
		lines("How many commits and entries are written?", PerSecond,
			"Acknowledged commits and the entries in them. Many entries a commit are cheap; many commits of few entries: a longer commit_interval.",
			Query{`sum(rate(millrace_lane_commits_total{pipeline=~"$pipeline"}[$__rate_interval]))`, "commits"},
			Query{`sum(rate(millrace_lane_entries_written_total{pipeline=~"$pipeline"}[$__rate_interval]))`, "entries"}),
		lines("How long does a commit take?", Seconds,
			"From handing a commit over until Redis or the journal has it, with every try. Slower than the calls to Redis: commits wait for each other.",
			quantiles("millrace:commit_duration_seconds:quantile")),
		lines("How long does closing a window take?", Seconds,
			"Merging and publishing one revision. It grows with keys and lanes; compare with the calls to Kafka.",
			quantiles("millrace:close_duration_seconds:quantile")),
		lines("How long after the watermark is a window published?", Seconds,
			"From the commit that let the watermark pass until the first revision. Seconds are the closer's rounds; more: its queue is long, or it is stuck.",
			quantiles("millrace:watermark_to_published_seconds:quantile")),
		lines("Is closing behind?", Seconds,
			"Time since every due window was published. 1 to 3 s is healthy; a line that climbs by a second a second is a closer that is stuck.",
			Query{`max by (pipeline) (millrace_closing_delay_seconds{pipeline=~"$pipeline"})`, "{{pipeline}}"}),
		lines("How many windows are closed and made final?", PerSecond,
			"Windows a second. closed without final: the watermark does not get past allowed_lateness.",
			Query{`sum(rate(millrace_windows_closed_total{pipeline=~"$pipeline"}[$__rate_interval]))`, "closed"},
			Query{`sum(rate(millrace_windows_final_total{pipeline=~"$pipeline"}[$__rate_interval]))`, "final"}),
		lines("Why were windows published within a minute?", Count,
			"Revisions of the last minute by reason. Many late ones cost readers: raise out_of_orderness, or mend the producer that is behind.",
			Query{risen("reason", "millrace_revisions_total", "1m"), "{{reason}}"}),
		lines("How many rows are published?", PerSecond,
			"Result rows a second: keys times windows. It follows the number of keys, and readers of the result topic feel it.",
			Query{`sum by (pipeline) (rate(millrace_published_rows_total{pipeline=~"$pipeline"}[$__rate_interval]))`, "{{pipeline}}"}),
		lines("How many records were refused within 5 minutes?", Count,
			"Refused records by reason; millrace status NAME TOPIC/PARTITION shows the last of each. Mend the producer or the spec, then replay.",
			Query{risen("reason", "millrace_refused_records_total", "5m"), "{{reason}}"}),
		lines("What do lanes hold in memory?", Bytes,
			"State and commits, by lane. It grows with keys and open windows: compare with the open windows beside it.",
			Query{`sum by (topic, partition) (millrace_lane_memory_bytes{pipeline=~"$pipeline"})`, "{{topic}}/{{partition}}"}),
		lines("How many windows are open, and kept?", Count,
			"Open windows, ledger rows, windows with contents in Redis, and those the sweep has to look at. A backlog that does not return to 0: Redis grows.",
			Query{`sum(millrace_closing_open_windows{pipeline=~"$pipeline"})`, "open"},
			Query{`sum(millrace_kept_rows{pipeline=~"$pipeline"})`, "ledger rows"},
			Query{`sum(millrace_kept_results{pipeline=~"$pipeline"})`, "with contents"},
			Query{`sum(millrace_kept_sweep_backlog{pipeline=~"$pipeline"})`, "sweep backlog"}),
		lines("How long do recoveries and replays take?", Seconds,
			"Mean duration of each step of a lane's recovery and of a lane's part of a replay, since the workers began. restore grows with the state in Redis.",
			Query{`sum by (step) (millrace_recovery_step_duration_seconds_sum{pipeline=~"$pipeline"}) / ` +
				`sum by (step) (millrace_recovery_step_duration_seconds_count{pipeline=~"$pipeline"})`, "{{step}}"},
			Query{`sum(millrace_replay_duration_seconds_sum{pipeline=~"$pipeline"}) / ` +
				`sum(millrace_replay_duration_seconds_count{pipeline=~"$pipeline"})`, "replay"}),
	},
}
