// Package source is everything Millrace reads from and appends to Kafka outside of closing: the settings, the queries
// about topics and offsets, the lane's own reader, the consumer-group membership that decides who owns which lane, and
// the producers of side records and of `millrace feed`. It is built on sarama alone.
package source
