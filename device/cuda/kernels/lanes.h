// Sums in the order of device.LaneSum: kernel laneChunks leaves the sums of chunks of LANE_CHUNK elements, laneTotal
// adds them up.

#define LANE_CHUNK 4096

enum { Squares, Absolutes, Above, CountAbove };

// laneTotal is the sum of part in order, by a warp.
DEVICE double laneTotal(const double *part, long chunks) {
	int lane = tid() % 32;
	double total = 0, next = lane < chunks ? part[lane] : 0;
	for (long at = 0; at < chunks; at += 32) {
		double x = next;
		next = at + 32 + lane < chunks ? part[at + 32 + lane] : 0; // on its way while these add up
#pragma unroll
		for (int i = 0; i < 32; i++) total += broadcast(x, i); // adding 0 changes nothing
	}
	return total;
}
