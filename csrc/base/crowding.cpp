#include "base/crowding.h"

#include <algorithm>

namespace miaotui {
namespace {

constexpr double kWindowS = 0.02;  // some slices of a scheduler
// One thread of n less costs up to 1/n of the speed, so the others must wait for about as much of the time to be worth it.
constexpr double kTooMuchLost = 0.6;
constexpr double kFirstPauseS = 0.1, kLongestPauseS = 2;

}  // namespace

int Crowding::threads(double now_s) {
    if (threads_ < most_ && now_s >= retry_at_s_) {
        ++threads_;
        retry_at_s_ = now_s + kWindowS;  // one more at a time
        forget();
    }
    return threads_;
}

void Crowding::note(double now_s, double wall_s, double lost_s) {
    wall_s_ += wall_s;
    lost_s_ += lost_s;
    if (wall_s_ < kWindowS) return;
    if (threads_ > 1 && lost_s_ > kTooMuchLost / threads_ * wall_s_) {
        --threads_;
        pause_s_ = std::clamp(2 * pause_s_, kFirstPauseS, kLongestPauseS);
        retry_at_s_ = now_s + pause_s_;
    } else if (threads_ == most_) {
        pause_s_ = 0;
    }
    forget();
}

}  // namespace miaotui
