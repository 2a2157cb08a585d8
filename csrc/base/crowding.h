// How many threads are worth having on a machine that others use, too. A thread that is pushed off its core makes all the rest
// wait at every barrier, so on two cores one thread is then faster than two.
#pragma once

namespace miaotui {

class Crowding {
public:
    explicit Crowding(int most) : most_(most), threads_(most) {}

    // Threads of the next run that begins at now_s.
    int threads(double now_s);

    // What a run of several threads took, and how long the thread that lost most was kept from running; in seconds.
    void note(double now_s, double wall_s, double lost_s);

private:
    void forget() { wall_s_ = lost_s_ = 0; }

    int most_, threads_;
    double wall_s_ = 0, lost_s_ = 0;       // since the last decision
    double pause_s_ = 0, retry_at_s_ = 0;  // after a retreat, one thread more is tried again then
};

}  // namespace miaotui
