// The Go library github.com/arloliu/mebo on the data that bench_mebo --export wrote, in the same table.
package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/arloliu/mebo"
	"github.com/arloliu/mebo/blob"
	"github.com/arloliu/mebo/format"
)

const runs = 15

type series struct {
	id     uint64
	times  []int64
	values []float64
}

type row struct {
	name   string
	times  format.EncodingType
	values format.EncodingType
	codec  format.CompressionType
	shared bool
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func load(path string) []series {
	bytes, err := os.ReadFile(path)
	fail(err)
	metrics, points := binary.LittleEndian.Uint32(bytes), int(binary.LittleEndian.Uint32(bytes[4:]))
	bytes = bytes[8:]
	next := func() uint64 {
		v := binary.LittleEndian.Uint64(bytes)
		bytes = bytes[8:]
		return v
	}
	all := make([]series, metrics)
	for m := range all {
		all[m] = series{next(), make([]int64, points), make([]float64, points)}
		for i := range all[m].times {
			all[m].times[i] = int64(next())
		}
		for i := range all[m].values {
			all[m].values[i] = math.Float64frombits(next())
		}
	}
	return all
}

func encode(data []series, r row) []byte {
	options := []blob.NumericEncoderOption{
		blob.WithTimestampEncoding(r.times), blob.WithValueEncoding(r.values),
		blob.WithTimestampCompression(r.codec), blob.WithValueCompression(r.codec),
	}
	if r.shared {
		options = append(options, blob.WithBlobLayoutV2(), blob.WithSharedTimestamps())
	}
	encoder, err := mebo.NewNumericEncoder(time.UnixMicro(data[0].times[0]), options...)
	fail(err)
	for _, s := range data {
		fail(encoder.StartMetricID(s.id, len(s.times)))
		fail(encoder.AddDataPoints(s.times, s.values, nil))
		fail(encoder.EndMetric())
	}
	bytes, err := encoder.Finish()
	fail(err)
	return bytes
}

func decode(bytes []byte, data []series) uint64 {
	decoder, err := mebo.NewNumericDecoder(bytes)
	fail(err)
	b, err := decoder.Decode()
	fail(err)
	var seen uint64
	for _, s := range data {
		for _, point := range b.All(s.id) {
			seen ^= math.Float64bits(point.Val) ^ uint64(point.Ts)
		}
	}
	return seen
}

func least(points int, work func()) float64 {
	best := math.Inf(1)
	for range runs {
		start := time.Now()
		work()
		best = min(best, float64(time.Since(start).Nanoseconds())/float64(points))
	}
	return best
}

func main() {
	rows := []row{
		{"raw+raw none", format.TypeRaw, format.TypeRaw, format.CompressionNone, false},
		{"delta+gorilla none", format.TypeDelta, format.TypeGorilla, format.CompressionNone, false},
		{"delta+chimp none", format.TypeDelta, format.TypeChimp, format.CompressionNone, false},
		{"delta+alp none", format.TypeDelta, format.TypeALP, format.CompressionNone, false},
		{"deltapacked+gorilla none", format.TypeDeltaPacked, format.TypeGorilla, format.CompressionNone, false},
		{"delta+gorilla zstd", format.TypeDelta, format.TypeGorilla, format.CompressionZstd, false},
		{"delta+gorilla s2", format.TypeDelta, format.TypeGorilla, format.CompressionS2, false},
		{"delta+gorilla lz4", format.TypeDelta, format.TypeGorilla, format.CompressionLZ4, false},
		{"delta+gorilla none v2shared", format.TypeDelta, format.TypeGorilla, format.CompressionNone, true},
		{"delta+alp none v2shared", format.TypeDelta, format.TypeALP, format.CompressionNone, true},
	}
	fmt.Printf("\n# github.com/arloliu/mebo (Go), the same data, one goroutine, least of %d runs\n", runs)
	for _, kind := range []string{"walk", "decimal"} {
		data := load(filepath.Join(os.Args[1], kind+".bin"))
		points := len(data) * len(data[0].times)
		fmt.Printf("\n## %s\n\n| encoding | encode ns/pt | decode ns/pt | B/pt |\n|---|---|---|---|\n", kind)
		for _, r := range rows {
			bytes := encode(data, r)
			var seen uint64
			enc := least(points, func() { encode(data, r) })
			dec := least(points, func() { seen ^= decode(bytes, data) })
			if seen == 1 {
				fmt.Println(seen)
			}
			fmt.Printf("| %s | %.2f | %.2f | %.3f |\n", r.name, enc, dec, float64(len(bytes))/float64(points))
		}
	}
}
