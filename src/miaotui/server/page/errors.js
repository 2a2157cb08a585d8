// What went wrong, in words that say what to do about it.

import { t } from "./i18n.js";

/** error: an ApiError, or what a turn keeps of one. */
export function explain(error) {
  const text = error.message ?? error.text ?? "";
  if (error.status === 401) return t("error_key");
  if (error.status === 429) return t("error_busy", { seconds: error.retryAfter ?? 1 });
  if (error.status === 503) return t("error_restarting");
  if (error.status === 0) return t("error_unreachable");
  return text ? t("error_other", { text }) : t("error_unreachable");
}
