package app

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

const (
	timestampType  = "message.timestamp.type"
	timestampAfter = "message.timestamp.after.max.ms"
	timestampDiff  = "message.timestamp.difference.max.ms" // what brokers before 3.6 have instead
	createTime     = "CreateTime"
)

// warnOfTimestamps names the source topics that take whatever timestamp a producer gives: max_future compares with it, so one
// record from 2099 moves the watermark to 2099 and makes late what comes after it. A spec with max_jump bounds that itself.
func warnOfTimestamps(ctx context.Context, cluster *source.Cluster, s *spec.Spec) (warnings []string, err error) {
	if s.Event.MaxJump > 0 {
		return nil, nil
	}
	for _, topic := range s.Source.Topics {
		settings, err := cluster.TopicSettings(ctx, topic, timestampType, timestampAfter, timestampDiff)
		if source.Denied(err) {
			continue // what may not be looked at is the operator's to know
		}
		if err != nil {
			return nil, err
		}
		if text := timestampWarning(topic, settings); text != "" {
			warnings = append(warnings, text)
		}
	}
	return warnings, nil
}

// timestampWarning is what the settings of a source topic leave to its producers, "" when the broker bounds it.
func timestampWarning(topic string, settings map[string]string) string {
	if !strings.EqualFold(settings[timestampType], createTime) || finite(settings[timestampAfter]) || finite(settings[timestampDiff]) {
		return ""
	}
	return fmt.Sprintf("topic %s has %s=%s without a finite %s: one record from 2099 moves the watermark for good; "+
		"set it, or event.max_jump in the spec", topic, timestampType, createTime, timestampAfter)
}

// finite reports whether a setting in ms bounds anything.
func finite(text string) bool {
	ms, err := strconv.ParseInt(text, 10, 64)
	return err == nil && ms >= 0 && ms < math.MaxInt64
}
