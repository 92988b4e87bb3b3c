package source

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/IBM/sarama"
)

const (
	// SettingMaxMessageBytes is the topic setting that bounds a batch, and with it every record, in bytes.
	SettingMaxMessageBytes = "max.message.bytes"

	// defaultMessageBytes is what a broker takes whose settings nobody has changed.
	defaultMessageBytes = 1048588

	// batchOverhead bounds what a batch adds to its records: its header, and what compression adds to bytes that it
	// cannot make fewer.
	batchOverhead = 512

	// recordOverhead bounds what a record has besides key, value and headers, and a header besides its two texts.
	recordOverhead, headerOverhead = 64, 10

	// requestOverhead bounds what a request adds to a batch.
	requestOverhead = 64 << 10
)

// MaxMessageBytes asks the brokers for the topic's max.message.bytes. A broker that does not let this client ask (the
// operation DescribeConfigs on the topic) is taken to have the default. ErrUnknownTopic when there is no such topic.
func (c *Cluster) MaxMessageBytes(ctx context.Context, topic string) (int, error) {
	settings, err := c.TopicSettings(ctx, topic, SettingMaxMessageBytes)
	if Denied(err) {
		return defaultMessageBytes, nil
	}
	if err != nil {
		return 0, err
	}
	text, known := settings[SettingMaxMessageBytes]
	if !known {
		return defaultMessageBytes, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("settings of topic %s: %s is %q, want a number", topic, SettingMaxMessageBytes, text)
	}
	return n, nil
}

// TooLargeError says that a topic does not take a record. It is ErrRecordTooLarge.
type TooLargeError struct {
	Topic       string
	Key         []byte
	Size, Limit int // as RecordSize counts; Limit is the topic's RecordLimit
}

func (e *TooLargeError) Error() string {
	const most = 40
	key := e.Key
	if len(key) > most {
		key = append(key[:most:most], "..."...)
	}
	return fmt.Sprintf("a record has %d bytes, topic %s takes %d: raise its limit with "+
		"kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config %s=%d (the record's key is %s)",
		e.Size, e.Topic, e.Limit, e.Topic, SettingMaxMessageBytes, MessageBytes(e.Size), strings.ToValidUTF8(string(key), "?"))
}

// Is makes it ErrRecordTooLarge.
func (e *TooLargeError) Is(target error) bool { return target == ErrRecordTooLarge }

// TooLarge reports whether a producer's error says that the topic, or the client itself, takes no record of that size.
func TooLarge(err error) bool {
	var code sarama.KError
	var local sarama.ConfigurationError // sarama's own check of the size
	return errors.As(err, &code) && (code == sarama.ErrMessageSizeTooLarge || code == sarama.ErrInvalidMessageSize) ||
		errors.As(err, &local)
}

// RecordLimit is the size of the largest record, as RecordSize counts it, that a topic with this max.message.bytes takes
// from a client of this package.
func RecordLimit(maxMessageBytes int) int {
	return max(1, min(maxMessageBytes, int(sarama.MaxRequestSize)-requestOverhead)-batchOverhead)
}

// MessageBytes is the inverse of RecordLimit: the max.message.bytes that a topic needs to take records of the given size.
func MessageBytes(record int) int { return record + batchOverhead }

// RecordSize bounds the bytes that a record takes in a batch.
func RecordSize(key, value []byte, headers []Header) int {
	n := recordOverhead + len(key) + len(value)
	for _, h := range headers {
		n += headerOverhead + len(h.Key) + len(h.Value)
	}
	return n
}
