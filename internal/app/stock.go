package app

import (
	"context"
	"errors"
	"math"
	"time"

	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

// stocks count windows by what the ledger says of them.
type stocks struct{ log ledger.Log }

// stockEvery is after how many records of the ledger its reader says how far it is.
const stockEvery = 1024

// Stock implements activities.Stocks.
func (c stocks) Stock(ctx context.Context, s *spec.Spec, at, since time.Time, progress func(int64)) (contract.Stock, error) {
	rows := make(map[ledger.WindowID]ledger.Row)
	read := int64(0)
	err := ledger.Read(ctx, c.log, s.Name, func(rec ledger.Record) error {
		if read++; read%stockEvery == 0 {
			progress(read)
		}
		switch {
		case rec.Row != nil:
			rows[rec.Row.ID()] = *rec.Row
		case rec.Tombstone != nil:
			delete(rows, *rec.Tombstone)
		}
		return nil
	})
	if err != nil && !errors.Is(err, source.ErrUnknownTopic) { // a pipeline that never ran has no ledger
		return contract.Stock{}, err
	}
	return countStock(s, rows, at, since), nil
}

// countStock counts the windows of each family of the spec.
func countStock(s *spec.Spec, rows map[ledger.WindowID]ledger.Row, at, since time.Time) contract.Stock {
	stock := contract.Stock{At: at}
	places := make(map[string]int)
	for _, family := range s.Families() {
		places[family] = len(stock.Families)
		stock.Families = append(stock.Families, contract.StockFamily{Name: family})
	}
	for id, row := range rows {
		place, ok := places[id.Window]
		if !ok {
			continue // of a spec before this one
		}
		f := &stock.Families[place]
		f.Windows++
		if row.Archive != nil && row.Archive.Gone == "" {
			f.Archived++
			f.ArchivedBytes += row.Archive.Bytes
		}
		goes := expiresAt(s, &row)
		if at.UnixMilli() < goes {
			f.Kept++
			continue
		}
		f.Expired++
		if !since.IsZero() && goes > since.UnixMilli() {
			f.ExpiredSince++
			if row.Archive != nil {
				f.BytesFreed += row.Archive.Bytes
			}
		}
	}
	return stock
}

// expiresAt is when the contents of a window go, in ms: after its retention, and where there is an archive not before they are in it.
func expiresAt(s *spec.Spec, row *ledger.Row) int64 {
	if !row.Final {
		return math.MaxInt64
	}
	goes := row.ClosedAt + s.Keeps(row.Window).Results.Millis()
	switch {
	case s.Archive == nil:
		return goes
	case row.Archive == nil:
		return math.MaxInt64
	}
	return max(goes, row.Archive.At)
}
