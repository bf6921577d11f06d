#[derive(tailfold::Event)]
#[event(category = "course")]
enum CourseEvent {
    #[event(tag = "course:{cours}")]
    Booked { course: String, student: String },
    #[event(tag = "course:{1}")]
    Moved(String),
    #[event(tag = "course:{course}")]
    Closed,
    #[event(tag = "course:{}")]
    Opened(String),
    #[event(tag = "course:{course")]
    Unclosed { course: String },
    #[event(tag = "tailfold.key:{0}")]
    Reserved(String),
    #[event(tag = "")]
    Empty(String),
}

fn main() {}
