package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

// Calibration returns what is to be kept of a report, false if that is nothing.
func (r *Report) Calibration(key transmit.CalibrationKey, now time.Time) (*transmit.CalibrationFile, bool) {
	over := r.Path
	if len(key.Devices) > 0 {
		// Everyone may read it, and it is of use for all that goes there: it names no peer.
		over = "device " + key.Devices[0].Device
	}
	f := &transmit.CalibrationFile{Schema: transmit.CalibrationSchema, Path: over, Measured: now.UTC().Format(time.RFC3339), Quick: r.Quick,
		Key: key, Crossovers: []transmit.CalibrationCrossover{}, Disturbances: r.Disturbances}
	for _, c := range r.Crossovers {
		if c.To == transmit.TCP && transmit.Calibrates(c.Backend, c.Against) {
			f.Crossovers = append(f.Crossovers, transmit.CalibrationCrossover{Backend: c.Backend, Cache: c.Cache, Bytes: c.Bytes, LowBytes: c.LowBytes, HighBytes: c.HighBytes})
		}
	}
	return f, r.Conclusive && len(f.Crossovers) > 0
}

// Save writes a calibration below dir, which it makes if it is missing, in place of
// an earlier one of the same path, and returns the name of the file. There is always
// the old file or the new one, and never a part: it is written beside and renamed,
// which also takes the place of a symbolic link and never follows it.
func Save(dir string, f *transmit.CalibrationFile) (string, error) {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return "", fmt.Errorf("calibration: %w", err)
	}
	if _, err := transmit.ParseCalibration(data); err != nil {
		return "", fmt.Errorf("calibration: what would be saved %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("calibration: %w", err)
	}
	name := filepath.Join(dir, f.Key.FileName())
	t, err := os.CreateTemp(dir, ".calibration-*")
	if err != nil {
		return "", fmt.Errorf("calibration: %w", err)
	}
	err = errors.Join(put(t, append(data, '\n')), t.Close())
	if err == nil {
		err = os.Rename(t.Name(), name)
	}
	if err != nil {
		// What could not be kept is not to take room either.
		return "", fmt.Errorf("calibration: %w", errors.Join(err, os.Remove(t.Name())))
	}
	return name, nil
}

// put writes what others may read: it holds no secret, and services of other users
// choose by it.
func put(t *os.File, data []byte) error {
	if _, err := t.Write(data); err != nil {
		return err
	}
	if err := t.Chmod(0o644); err != nil {
		return err
	}
	return t.Sync()
}
