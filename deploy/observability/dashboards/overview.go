package dashboards

// quantiles asks for a recorded quantile by pipeline; the rules are in ../prometheus/recording.yaml.
func quantiles(recorded string) Query {
	return Query{recorded + `{pipeline=~"$pipeline"}`, `{{pipeline}} {{quantile}}`}
}

var overview = Dashboard{
	Name:      "overview",
	Title:     "Overview",
	About:     "Is every pipeline on time, and is anything in its way? Look here first.",
	Variables: []Variable{ofPipeline},
	Panels: []Panel{
		lines("How many events are read?", PerSecond,
			"Records read a second, whatever became of them. A line that falls to 0 while the lag grows: see \"What keeps pipelines from their work?\".",
			Query{`sum by (pipeline) (rate(millrace_lane_records_total{pipeline=~"$pipeline"}[$__rate_interval]))`, "{{pipeline}}"}),
		lines("How far is Redis behind Kafka?", Count,
			"Records in the log that Redis does not have yet. It grows when producers send more than is folded: scale the pipeline, or look at "+
				"Dependencies for a slow server.",
			Query{`sum by (pipeline) (millrace_lane_lag{pipeline=~"$pipeline"})`, "{{pipeline}}"}),
		lines("How far is the watermark behind the clock?", Seconds,
			"A constant distance is what out_of_orderness costs. One that grows as fast as time passes: one lane holds it, see the dashboard Pipeline.",
			Query{`time() - min by (pipeline) (millrace_closing_watermark_timestamp_seconds{pipeline=~"$pipeline"})`, "{{pipeline}}"}),
		lines("How long until an event is readable?", Seconds,
			"From an event's stamp until Redis has acknowledged it. A slow p99 under a fast p50 is one lane or one server: see the calls in "+
				"Dependencies; points are exemplars and lead to a trace.",
			quantiles("millrace:event_to_readable_seconds:quantile")),
		lines("How long until a window is published?", Seconds,
			"From the end of a window, in event time, until its first revision. It contains out_of_orderness and the wait for the slowest lane.",
			quantiles("millrace:window_end_to_published_seconds:quantile")),
		states("What keeps pipelines from their work?",
			"Conditions by kind, as the workers and the workflows see them. docs/stuck-states.md has every kind, with the command that leads out; "+
				"no bar is a healthy fleet.",
			Query{`max by (pipeline, kind) (millrace_conditions{pipeline=~"$pipeline"} > 0 or ` +
				`millrace_pipeline_conditions{pipeline=~"$pipeline"} > 0)` + none("kind"), "{{pipeline}} {{kind}}"}),
		states("Which alerts fire?",
			"Alerts of this Prometheus by name. Each has a description of what to do, and a section of the runbook.",
			Query{`count by (alertname) (ALERTS{alertstate="firing"})` + none("alertname"), "{{alertname}}"}),
		lines("How much of the memory limits is used?", Share,
			"Lanes against lane.memory_limit, the process against GOMEMLIMIT. Near 1 lanes stop reading, or Go collects all the time: raise the limit, "+
				"add workers, or use fewer keys in flight.",
			Query{`max by (pipeline, replica) (millrace_replica_memory_bytes{pipeline=~"$pipeline"} / ` +
				`millrace_replica_memory_limit_bytes{pipeline=~"$pipeline"})`, "lanes of {{pipeline}}/{{replica}}"},
			Query{`process:go_memory_limit:ratio`, "process {{instance}}"}),
		lines("How much room is left?", Share,
			"What the fullest write-ahead log uses of its hard limit, and Redis of its maxmemory. At 100 % lanes stop: see Dependencies.",
			Query{`max(millrace_wal_used_bytes / ignoring (limit) millrace_wal_limit_bytes{limit="hard"})`, "write-ahead log"},
			Query{`max(millrace_redis_server_memory_bytes) / max(millrace_redis_server_memory_limit_bytes)`, "Redis"}),
		lines("How long did short runs take?", Seconds,
			"The last dev --drain, feed, bench and replay that pushed to the Pushgateway, by command and how it ended. One that failed has said why "+
				"on standard error.",
			Query{`max by (command, outcome) (millrace_run_duration_seconds * on (instance, command) group_right () millrace_run_outcome)`,
				"{{command}} {{outcome}}"}),
		values("Which builds run?", Count,
			"Processes by build. Two builds for longer than a roll-out lasts: finish it, or go back.",
			Query{`count by (version) (millrace_build_info{job="millrace"})`, "{{version}}"},
			Query{`sum(up{job="millrace"})`, "workers that answer"}),
	},
}
