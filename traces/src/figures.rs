//! Figures of `BurstGPT` that the generators build in. Each says whether it is measured or inferred.

use overbook_sim::time::{NS_PER_S, Span};

/// One hour.
pub(crate) const HOUR: Span = Span(3_600 * NS_PER_S);

/// Mean requests in each hour of the day, from midnight, local time. Measured: all 1,429,737 requests of `BurstGPT_1`
/// over 61 days. (Conversation requests count in the hour in which their inferred session began, which shifts a few.)
pub const BURSTGPT_HOURLY_MEAN: [f64; 24] = [
    940.0, 893.0, 572.0, 513.0, 368.0, 342.0, 194.0, 153.0, 178.0, 416.0, 879.0, 1287.0, 1744.0, 1501.0, 1796.0,
    1401.0, 1476.0, 1356.0, 1181.0, 1568.0, 1353.0, 1175.0, 1129.0, 1026.0,
];

/// Quantiles of a length: (probability, tokens).
pub(crate) type Quantiles = &'static [(f64, u32)];

/// Prompt tokens of conversation requests. Measured on the 774 successful conversation rows of the first 400 rows each
/// of `BurstGPT_1` and `BurstGPT_3`, all models; mean 586 (the rows themselves: 585). Inferred for the whole trace.
pub(crate) const CONVERSATION_PROMPT: Quantiles = &[
    (0.0, 8),
    (0.01, 13),
    (0.05, 19),
    (0.1, 25),
    (0.2, 51),
    (0.3, 111),
    (0.4, 201),
    (0.5, 336),
    (0.6, 466),
    (0.7, 603),
    (0.8, 893),
    (0.9, 1322),
    (0.95, 1597),
    (0.98, 1943),
    (0.99, 2488),
    (0.995, 6714),
    (1.0, 25_085),
];

/// Response tokens of the same rows; mean 232 (the rows themselves: 230).
pub(crate) const CONVERSATION_OUTPUT: Quantiles = &[
    (0.0, 2),
    (0.01, 5),
    (0.05, 13),
    (0.1, 18),
    (0.2, 36),
    (0.3, 60),
    (0.4, 93),
    (0.5, 150),
    (0.6, 213),
    (0.7, 293),
    (0.8, 377),
    (0.9, 514),
    (0.95, 701),
    (0.98, 987),
    (0.99, 1271),
    (0.995, 1424),
    (1.0, 2019),
];

/// Prompt tokens of API requests. Measured on the 60 rows of one API burst of `BurstGPT_2`; mean 242. Inferred for all
/// other API traffic, which is known to vary.
pub(crate) const API_PROMPT: Quantiles = &[
    (0.0, 205),
    (0.01, 208),
    (0.05, 211),
    (0.1, 217),
    (0.2, 226),
    (0.3, 228),
    (0.4, 232),
    (0.5, 236),
    (0.6, 239),
    (0.7, 248),
    (0.8, 252),
    (0.9, 281),
    (0.95, 287),
    (0.98, 311),
    (0.99, 335),
    (0.995, 349),
    (1.0, 363),
];

/// Response tokens of API requests: 7 in all 60 rows of that burst (measured).
pub(crate) const API_OUTPUT: Quantiles = &[(0.0, 7), (1.0, 7)];

/// Mean tokens of a request, prompt and response, failed ones included. Measured: 1,049,263,050 tokens in 1,429,737 requests
/// of `BurstGPT_1`.
pub const BURSTGPT_MEAN_TOKENS: f64 = 1_049_263_050.0 / 1_429_737.0;

/// Share of conversation requests in all of `BurstGPT_1`. Inferred: 154,094 of 1,429,737, see
/// [`BURSTGPT_1_CONVERSATION`](crate::burstgpt_hours::BURSTGPT_1_CONVERSATION). The first nine days agree: by the first
/// 59,999 rows, as reported by others, they hold 27,737 conversations, which is 13 % of the trace if every nine days do. (46 %
/// of those rows are conversations only because the head of the trace is quiet: API traffic starts on its last day.)
pub(crate) const CONVERSATION_SHARE: f64 = 154_094.0 / 1_429_737.0;

/// Share of requests that failed in `BurstGPT_1`, whatever their kind. Measured: of 1,429.7 thousand requests 1,404.3
/// thousand succeeded (line counts that its publishers state). Inferred: that it is the same at all times.
pub const BURSTGPT_FAILURES: f64 = 1.0 - 1_404.3 / 1_429.7;

/// Share of `ChatGPT` (GPT-3.5) among conversation requests. Measured on the 774 rows above: 607.
pub(crate) const CONVERSATION_CHATGPT: f64 = 607.0 / 774.0;

/// Share of `ChatGPT` among API requests. Inferred from the first 59,999 rows of `BurstGPT_1` as reported by others:
/// 50,494 `ChatGPT` rows, less the share above of 27,737 conversation rows, of 32,262 API rows.
pub(crate) const API_CHATGPT: f64 = (50_494.0 - CONVERSATION_CHATGPT * 27_737.0) / 32_262.0;

/// Exponent of the tail of API prompts, from the median up. Fitted, the one free parameter of the lengths: with it the
/// whole trace has its mean of 1,049,263,050 / 1,429,737 tokens per request (failed ones, which have none, included;
/// 747.2 tokens per request that succeeds).
pub(crate) const API_TAIL_ALPHA: f64 = 0.6164;

/// Where the tail ends [tokens]: the context of the models served (largest total of the first 59,999 rows: 8,193).
pub(crate) const API_TAIL_MAX: u32 = 8192;

/// In-window shape of the gaps. Measured: median of maximum-likelihood fits over 20-minute and 1-hour windows of the
/// first 400 rows of `BurstGPT_1` (range 0.82 to 1.39), conversation traffic. Inferred for API traffic.
pub const BURSTGPT_SHAPE: f64 = 1.16;
